"""The queries of upkeep: references to files, and all rows of all tables.

Reading functions take a `ReadSession`, those of a restore a `Connection`, and none of them commits.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    TableClause,
    delete,
    func,
    insert,
    inspect,
    literal_column,
    select,
)
from sqlalchemy import table as table_clause

from registry.storage.database import ReadSession
from registry.storage.models import (
    AdapterVersionRow,
    ArtifactRow,
    CompositionVersionRow,
    RecipeIngredientRow,
    RecipeRow,
    Table,
)

_ROWS_AT_ONCE = 500
_ALEMBIC = "alembic_version"


# References to files ----------------------------------------------------------------------------


def version_digests(session: ReadSession) -> Sequence[tuple[str, datetime | None]]:
    """Return (digest, retirement time) of every version of every adapter."""
    query = select(AdapterVersionRow.digest, AdapterVersionRow.retired_at)
    return [(digest, retired_at) for digest, retired_at in session.execute(query)]


def composed_recipes(session: ReadSession) -> Sequence[tuple[str, datetime | None]]:
    """Return (recipe, retirement time) of every version of every composition."""
    query = select(CompositionVersionRow.recipe_digest, CompositionVersionRow.retired_at)
    return [(digest, retired_at) for digest, retired_at in session.execute(query)]


def recipes_with_artifact(session: ReadSession) -> Sequence[tuple[str, str | None]]:
    """Return (recipe, artifact) of every recipe."""
    query = select(RecipeRow.digest, RecipeRow.artifact)
    return [(recipe, artifact) for recipe, artifact in session.execute(query)]


def recipe_ingredients(session: ReadSession) -> Sequence[tuple[str, str]]:
    """Return (recipe, ingredient) of every ingredient of every recipe."""
    query = select(RecipeIngredientRow.recipe_digest, RecipeIngredientRow.digest)
    return [(recipe, ingredient) for recipe, ingredient in session.execute(query)]


def artifact_digests(session: ReadSession) -> set[str]:
    """Return the digests of all recorded artifacts."""
    return set(session.scalars(select(ArtifactRow.digest)))


def has_live_version(session: ReadSession, digest: str) -> bool:
    """Return whether a version with this content is not retired."""
    row = AdapterVersionRow
    live = select(row.id).where(row.digest == digest, row.retired_at.is_(None)).limit(1)
    return session.scalar(live) is not None


def has_artifact(session: ReadSession, digest: str) -> bool:
    """Return whether an artifact with this digest is recorded."""
    return (
        session.scalar(select(ArtifactRow.digest).where(ArtifactRow.digest == digest)) is not None
    )


# All rows of all tables -------------------------------------------------------------------------


def count_rows(session: ReadSession) -> dict[str, int]:
    """Return the number of rows of each table; a table follows those that it refers to."""
    return {
        table.name: session.scalar(select(func.count()).select_from(table)) or 0
        for table in Table.metadata.sorted_tables
    }


def all_rows(session: ReadSession, name: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table, sorted by primary key and loaded in batches."""
    table = Table.metadata.tables[name]
    query = select(table).order_by(*table.primary_key.columns)
    for row in session.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)):
        yield tuple(row)


def tables_of(connection: Connection) -> frozenset[str]:
    """Return the names of the tables in the database, except that of Alembic."""
    return frozenset(inspect(connection).get_table_names()) - {_ALEMBIC}


def columns_of(connection: Connection, name: str) -> frozenset[str]:
    """Return the names of the columns of a table in the database."""
    # Reflection would warn about types that SQLAlchemy does not support.
    no_rows: Select[Any] = select(literal_column("*")).select_from(table_clause(name)).limit(0)
    return frozenset(connection.execute(no_rows).keys())


def rows_in(connection: Connection, name: str) -> int:
    """Return the number of rows of a table in the database."""
    return connection.scalar(select(func.count()).select_from(table_clause(name))) or 0


def empty(connection: Connection, name: str) -> None:
    """Remove all rows of a table."""
    connection.execute(delete(table_clause(name)))


def load(connection: Connection, table: TableClause, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows into a table of the database."""
    connection.execute(insert(table), list(rows))


def advance_counters(connection: Connection, table: TableClause) -> None:
    """Advance the sequences of a table past the ids of the loaded rows.

    Only PostgreSQL has sequences; SQLite continues after the highest id.
    """
    if connection.dialect.name != "postgresql":
        return
    for column in table.columns:
        sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
        if sequence is not None:
            highest = select(func.coalesce(func.max(column), 0)).scalar_subquery()
            connection.execute(select(func.setval(sequence, highest + 1, False)))
