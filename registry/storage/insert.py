"""Adding rows, and the one place where a broken constraint gets its name."""

from collections.abc import Mapping

from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.exc import IntegrityError

from registry.storage.database import WriteSession
from registry.storage.errors import Conflict
from registry.storage.models import Table


def insert(session: WriteSession, *rows: Table) -> None:
    """Add rows in this order, all or none.

    Raises:
        Conflict: naming the constraint that stands against it; the transaction lives on.
    """
    try:
        with session.begin_nested():
            for row in rows:  # one at a time: a row may refer to the one before it
                session.add(row)
                session.flush()
    except IntegrityError as error:
        raise Conflict(_constraint(error)) from error


def _constraint(error: IntegrityError) -> str:
    """Return the name of the broken constraint, or what the database says when it gives none."""
    diagnostics = getattr(error.orig, "diag", None)  # PostgreSQL's drivers name it
    if diagnostics is not None:
        return str(diagnostics.constraint_name)
    # SQLite names the columns: "UNIQUE constraint failed: aliases.name, aliases.alias"
    said = str(error.orig)
    return _UNIQUE.get(said.rpartition(": ")[2], said)


_UNIQUE: Mapping[str, str] = {
    ", ".join(f"{table.name}.{column.name}" for column in constraint.columns): str(constraint.name)
    for table in Table.metadata.tables.values()
    for constraint in table.constraints
    if isinstance(constraint, UniqueConstraint | PrimaryKeyConstraint)
}
