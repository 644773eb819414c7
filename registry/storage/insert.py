"""Inserting rows, and finding the name of a violated constraint."""

from collections.abc import Mapping

from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.exc import IntegrityError

from registry.storage.database import WriteSession
from registry.storage.errors import Conflict
from registry.storage.models import Table


def insert(session: WriteSession, *rows: Table) -> None:
    """Insert rows in this order, all or none.

    Raises:
        Conflict: a row violates a constraint, which the error names. The transaction stays usable.
    """
    try:
        with session.begin_nested():
            for row in rows:  # one flush per row: a row may refer to the previous one
                session.add(row)
                session.flush()
    except IntegrityError as error:
        raise Conflict(_constraint(error)) from error


def _constraint(error: IntegrityError) -> str:
    """Return the name of the violated constraint, or the error's message if it is unknown."""
    diagnostics = getattr(error.orig, "diag", None)  # drivers of PostgreSQL give the name
    if diagnostics is not None:
        return str(diagnostics.constraint_name)
    # SQLite gives the columns: "UNIQUE constraint failed: aliases.name, aliases.alias"
    message = str(error.orig)
    return _UNIQUE.get(message.rpartition(": ")[2], message)


_UNIQUE: Mapping[str, str] = {
    ", ".join(f"{table.name}.{column.name}" for column in constraint.columns): str(constraint.name)
    for table in Table.metadata.tables.values()
    for constraint in table.constraints
    if isinstance(constraint, UniqueConstraint | PrimaryKeyConstraint)
}
