"""A time limit for each statement, so that no query holds a connection for long.

SQLite asks between steps of its virtual machine; PostgreSQL has a setting of its own.
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


def limit_statements(engine: Engine, seconds: float) -> None:
    """End every statement of `engine` that runs, or is fetched from, for longer than `seconds`."""
    if engine.dialect.name == "postgresql":

        @event.listens_for(engine, "begin")
        def set_timeout(connection: Connection) -> None:
            if not connection.get_execution_options().get(UNLIMITED):
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(1000 * seconds)}")

        return

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
