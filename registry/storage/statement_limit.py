"""A time limit for each statement, so that no query holds a connection for long.

SQLite asks between steps of its virtual machine; PostgreSQL has a setting of its own, and its
client waits a little longer, in case the server is too ill to keep to it.
"""

import math
import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

# The option of a connection whose statements may take any time, such as changes of the schema.
UNLIMITED = "weft_unlimited"
_DEADLINE = "weft_deadline"
_STEPS = 20_000  # about a millisecond
_CANCELLED = "57014"  # PostgreSQL's query_canceled
_GRACE_SECONDS = 2.0  # for PostgreSQL to end a statement by itself


def limit_statements(engine: Engine, seconds: float | None) -> None:
    """End every statement of `engine` that runs, or is fetched from, for longer than `seconds`.

    None means no limit; PostgreSQL is given up then only when it accepts no connections either.
    """
    if engine.dialect.name == "postgresql":
        event.listen(engine, "begin", lambda connection: _limit_postgresql(connection, seconds))
    elif seconds is not None:
        _limit_sqlite(engine, seconds)


def _limit_postgresql(connection: Connection, seconds: float | None) -> None:
    if connection.get_execution_options().get(UNLIMITED):
        seconds = None
    driver: Any = connection.connection.dbapi_connection
    driver.patience = None if seconds is None else seconds + _GRACE_SECONDS
    if seconds is not None:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(1000 * seconds)}")


def _limit_sqlite(engine: Engine, seconds: float) -> None:
    @event.listens_for(engine, "connect")
    def watch(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        info = entry.info
        connection.set_progress_handler(
            lambda: time.monotonic() > info.get(_DEADLINE, math.inf), _STEPS
        )

    @event.listens_for(engine, "before_cursor_execute")
    def start(connection: Connection, *_: Any) -> None:
        unlimited = connection.get_execution_options().get(UNLIMITED)
        connection.info[_DEADLINE] = math.inf if unlimited else time.monotonic() + seconds


def is_timeout(error: DBAPIError) -> bool:
    """Return whether a statement ended because of its limit."""
    if getattr(error.orig, "sqlstate", None) == _CANCELLED:
        return True
    return getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
