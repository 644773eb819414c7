"""Locks that the gateways of one PostgreSQL database take against each other, by name.

They are PostgreSQL's advisory locks of a session: the server frees them when the session ends, so a
gateway that is killed keeps none. The session has a connection of its own, outside of the pool, and
holds no transaction. On SQLite every lock is free: one gateway has the database for itself.
"""

import hashlib
import threading
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from registry.storage.database import Database
from registry.storage.errors import DatabaseUnavailable

# A gateway whose machine was lost sends no word of its end: the server asks after this silence.
_SILENCE_SECONDS, _ASK_SECONDS, _ASKS = 10, 5, 3
_SESSION = (
    f"SELECT set_config('tcp_keepalives_idle', '{_SILENCE_SECONDS}', false), "
    f"set_config('tcp_keepalives_interval', '{_ASK_SECONDS}', false), "
    f"set_config('tcp_keepalives_count', '{_ASKS}', false)"
)


class AdvisoryLocks:
    """The locks of one gateway. Threads may share one instance; a lock belongs to the instance."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mutex = threading.Lock()
        self._taken: set[str] = set()
        self._connection: Connection | None = None

    @property
    def shared(self) -> bool:
        """Whether other gateways may use the database."""
        return self._database.file is None

    def take(self, name: str) -> bool:
        """Take a lock if it is free, also to this gateway; return whether it was.

        Raises:
            DatabaseUnavailable: the server cannot be asked.
        """
        with self._mutex:
            free = name not in self._taken
            if free and (not self.shared or self._ask("pg_try_advisory_lock", name)):
                self._taken.add(name)
                return True
            return False

    def release(self, name: str) -> None:
        """Free a lock that this gateway has, or none. If the server cannot be asked, free all."""
        with self._mutex:
            if name not in self._taken:
                return
            self._taken.remove(name)
            if self.shared:
                try:
                    self._ask("pg_advisory_unlock", name)
                except DatabaseUnavailable:
                    self._drop()

    def close(self) -> None:
        """Free all locks."""
        with self._mutex:
            self._drop()

    def _ask(self, function: str, name: str) -> bool:
        """Return what a function of PostgreSQL says of a lock.

        A session that ended unnoticed, with all its locks, is begun again.
        """
        statement = f"SELECT {function}({_key(name)})"
        with self._database.access():
            if self._connection is not None:
                try:
                    return self._scalar(self._connection, statement)
                except DBAPIError as error:
                    self._drop()
                    if isinstance(error.orig, TimeoutError):  # the server is silent
                        raise
            self._connection = self._database.connect_apart()
            try:
                self._connection.exec_driver_sql(_SESSION)
                return self._scalar(self._connection, statement)
            except DBAPIError:
                self._drop()
                raise

    @staticmethod
    def _scalar(connection: Connection, statement: str) -> bool:
        return bool(connection.exec_driver_sql(statement).scalar_one())

    def _drop(self) -> None:
        """End the session, and with it every lock."""
        self._taken.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                connection.close()


def _key(name: str) -> int:
    """Return the number by which PostgreSQL knows a lock; two names hardly ever share one."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
