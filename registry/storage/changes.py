"""The number of changes to what references mean: what was resolved at one number holds at it.

Triggers of the database count, so no writer can forget to. Versions, aliases, visibility, lineage
and policies count; examples, embeddings, usage and new artifacts do not.
"""

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.storage.columns import Table

if TYPE_CHECKING:
    from registry.storage.database import Database

_READ = "SELECT number FROM changes"


class ChangesRow(Table):
    """A single row with the number of changes."""

    __tablename__ = "changes"
    __table_args__ = (CheckConstraint("id = 1", name="one"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class Changes:
    """Reads the number. `read` may be called by any thread, `glance` by one."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None

    def read(self) -> int:
        """Return the number.

        Raises:
            registry.errors.DatabaseUnavailable: the database cannot be read.
        """
        return self._database.scalar(_READ)

    def glance(self) -> int | None:
        """Return the number without waiting for anything, or None if that cannot be.

        On SQLite it is a read of 20 microseconds from the page cache; a server is never asked.
        """
        if self._database.file is None:
            return None
        with suppress(sqlite3.Error):
            if self._connection is None:
                self._connection = sqlite3.connect(
                    f"{self._database.file.absolute().as_uri()}?mode=ro", uri=True, timeout=0,
                    check_same_thread=False,
                )  # fmt: skip
            # All rows, since an unfinished statement would keep its view of the database.
            ((number,),) = self._connection.execute(_READ).fetchall()
            return int(number)
        return None

    def close(self) -> None:
        """Close the connection of `glance`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
