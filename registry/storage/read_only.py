"""Connections to a SQLite file that could not be written when they were opened.

SQLite opens such a file read-only and says nothing, `BEGIN IMMEDIATE` included, and the connection
refuses writes for ever, also when the disk can be written again.
"""

import os
import sqlite3

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

_READ_ONLY = "read_only"


def reopen_when_writable(engine: Engine, file: str) -> None:
    """Have the pool of `engine` open read-only connections again once `file` can be written."""

    @event.listens_for(engine, "connect")
    def _remember(_connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        entry.info[_READ_ONLY] = not _writable(file)

    @event.listens_for(engine, "checkout")
    def _reopen(
        _connection: sqlite3.Connection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        if entry.info[_READ_ONLY] and _writable(file):
            raise DisconnectionError  # the pool replaces the connection


def _writable(file: str) -> bool:
    # Opening the file would tell as well, but closing it would drop this process's locks on it.
    return os.access(file, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
