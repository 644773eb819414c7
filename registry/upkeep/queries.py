"""The statements behind upkeep: who needs which files, and every row of every table.

Reads take a `ReadSession`, what a restore does a `Connection`; none commits.
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


# Who needs which files --------------------------------------------------------------------------


def version_digests(session: ReadSession) -> Sequence[tuple[str, datetime | None]]:
    """Return digest and moment of retirement of every version of every adapter."""
    query = select(AdapterVersionRow.digest, AdapterVersionRow.retired_at)
    return [(digest, retired_at) for digest, retired_at in session.execute(query)]


def composed_recipes(session: ReadSession) -> Sequence[tuple[str, datetime | None]]:
    """Return recipe and moment of retirement of every version of every composition."""
    query = select(CompositionVersionRow.recipe_digest, CompositionVersionRow.retired_at)
    return [(digest, retired_at) for digest, retired_at in session.execute(query)]


def recipes_with_artifact(session: ReadSession) -> Sequence[tuple[str, str | None]]:
    """Return every recipe's digest with its artifact's."""
    query = select(RecipeRow.digest, RecipeRow.artifact)
    return [(recipe, artifact) for recipe, artifact in session.execute(query)]


def recipe_ingredients(session: ReadSession) -> Sequence[tuple[str, str]]:
    """Return every recipe's digest with each of its ingredients'."""
    query = select(RecipeIngredientRow.recipe_digest, RecipeIngredientRow.digest)
    return [(recipe, ingredient) for recipe, ingredient in session.execute(query)]


def artifact_digests(session: ReadSession) -> set[str]:
    """Return the digest of everything that was ever built."""
    return set(session.scalars(select(ArtifactRow.digest)))


# Every row of every table -----------------------------------------------------------------------


def count_rows(session: ReadSession) -> dict[str, int]:
    """Return the number of rows of each table, tables that others refer to first."""
    return {
        table.name: session.scalar(select(func.count()).select_from(table)) or 0
        for table in Table.metadata.sorted_tables
    }


def all_rows(session: ReadSession, name: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table by primary key, a few hundred at a time in memory."""
    table = Table.metadata.tables[name]
    query = select(table).order_by(*table.primary_key.columns)
    found = session.execute(query.execution_options(yield_per=_ROWS_AT_ONCE))
    for row in found:
        yield tuple(row)


def tables_of(connection: Connection) -> frozenset[str]:
    """Return the names of the tables that the database has, Alembic's left out."""
    return frozenset(inspect(connection).get_table_names()) - {_ALEMBIC}


def columns_of(connection: Connection, name: str) -> frozenset[str]:
    """Return the names of the columns that a table of the database has."""
    # Not by reflection, which warns of types that it does not know.
    nothing: Select[Any] = select(literal_column("*")).select_from(table_clause(name)).limit(0)
    return frozenset(connection.execute(nothing).keys())


def rows_in(connection: Connection, name: str) -> int:
    """Return the number of rows of a table of the database."""
    return connection.scalar(select(func.count()).select_from(table_clause(name))) or 0


def empty(connection: Connection, name: str) -> None:
    """Remove all rows of a table."""
    connection.execute(delete(table_clause(name)))


def load(connection: Connection, table: TableClause, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a table of the database."""
    connection.execute(insert(table), list(rows))


def advance_counters(connection: Connection, table: TableClause) -> None:
    """Have a table number its next row after those that were loaded with their numbers.

    SQLite does so by itself; PostgreSQL counts in a sequence beside the table.
    """
    if connection.dialect.name != "postgresql":
        return
    for column in table.columns:
        counter = connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
        if counter is not None:
            highest = select(func.coalesce(func.max(column), 0)).scalar_subquery()
            connection.execute(select(func.setval(counter, highest + 1, False)))
