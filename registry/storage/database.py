"""The connection to the database, and the only commit in the project.

The default is SQLite with a write-ahead log and foreign keys; a writer waits up to ten seconds for
the write lock. A PostgreSQL URL selects PostgreSQL, which needs the `vector` extension. Tables are
in `registry.storage.models`, and each folder of the registry has its own queries.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

import migrations
from registry.callers import LOCAL, Caller
from registry.storage.driver_errors import explained
from registry.storage.errors import (
    DatabaseAhead,
    DatabaseOutdated,
    DatabaseSilent,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    ReferencesBroken,
)
from registry.storage.read_only import reopen_when_writable
from registry.storage.silence import Silence
from registry.storage.statement_limit import UNLIMITED, limit_statements

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_SECONDS = 10
_CONNECT_SECONDS = 5  # to a server, and for one of the connections to be free
_CUT_SECONDS = 10  # of silence, after which a connection to a server counts as cut
# More than a server has threads, so that no thread waits for the connection of another.
_CONNECTIONS, _MORE_CONNECTIONS = 8, 40
_WAL_RETRY_SECONDS = 0.01
_BEGIN = "sqlite_begin"
_FOREIGN_KEYS = "sqlite_foreign_keys"
_SYNCHRONOUS = "synchronous"
# An upgrade of a PostgreSQL database takes this advisory lock; the number is specific to weft.
_UPGRADE_LOCK = 0x77656674

ReadSession = NewType("ReadSession", Session)
WriteSession = NewType("WriteSession", ReadSession)

# Alembic stores its environment in a module, so a process runs one upgrade at a time.
_upgrading = threading.Lock()


class Database:
    """A database with a URL such as `sqlite:////var/weft/weft.db`. Threads may share one instance.

    Args:
        url: an SQLAlchemy URL.
        statement_seconds: the time limit of a statement; None for none. Upgrades have none.

    Raises:
        DatabaseUrlInvalid: the URL is malformed, its driver is not installed, or it names no file.
            SQLite in memory is not supported, because each thread would have its own database.
    """

    def __init__(self, url: str, *, statement_seconds: float | None = None) -> None:
        parsed = _parse(url)
        self.file: Path | None = None  # of SQLite
        if parsed.get_backend_name() == "sqlite":
            self.file = Path(str(parsed.database))
        self._engine = _create_engine(parsed)
        limit_statements(self._engine, statement_seconds)
        # A writer takes the lock when its transaction begins. SQLite cannot wait for a lock at the
        # first write, because earlier reads of the transaction might be stale by then.
        self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        # A schema change on SQLite copies a table and drops the old one, which other tables refer
        # to, so foreign keys must be off.
        self._changer = self._writer.execution_options(**{_FOREIGN_KEYS: "OFF", UNLIMITED: True})
        self._fleeting = self._writer.execution_options(**{_SYNCHRONOUS: "NORMAL"})
        self._reader = _one_state(self._engine)
        self._silence = Silence(self._connect)

    @contextmanager
    def read(self, caller: Caller = LOCAL) -> Iterator[ReadSession]:
        """Yield a read-only session that sees one snapshot of the database.

        Queries by name or digest return the rows that are visible to `caller`
        (`registry.access.visibility`).

        Raises:
            DatabaseUnavailable: the database is unreachable or unreadable, or has no tables.
        """
        with self.access(), Session(self._reader, autoflush=False) as session:
            session.info["caller"] = caller
            yield ReadSession(session)

    @contextmanager
    def transaction(
        self, caller: Caller = LOCAL, *, durable: bool = True
    ) -> Iterator[WriteSession]:
        """Yield a session whose changes are committed on exit, or rolled back after an error.

        `caller` has the same effect as in `read`. SQLite runs one transaction at a time; the others
        wait. A commit is on disk when this returns; with `durable=False` it need not be, and a loss
        of power may undo it: only for what is written again anyway, such as a heartbeat.

        Raises:
            DatabaseUnavailable: the database is unreachable, not writable or was busy for too long.
        """
        writer = self._writer if durable else self._fleeting
        with self.access(), Session(writer, expire_on_commit=False) as session:
            session.info["caller"] = caller
            session.connection()  # begins the transaction, so that reads see the last commit
            yield WriteSession(ReadSession(session))
            session.commit()

    def scalar(self, statement: str) -> int:
        """Return the number that a statement reads, without the cost of a session.

        Raises:
            DatabaseUnavailable: as `read`.
        """
        with self.access(), self._engine.connect() as connection:
            return int(connection.exec_driver_sql(statement).scalar_one())

    def connect_apart(self) -> Connection:
        """Return a connection outside of the pool, whose statements need no transaction.

        Use it inside of `access`, and close it at the end.
        """
        engine = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        connection = engine.connect()
        connection.detach()
        return connection

    def upgrade(self) -> None:
        """Upgrade the schema to the current revision in one transaction; create a SQLite file.

        Raises:
            DatabaseAhead: a newer version of weft has upgraded the database.
            DatabaseUnavailable: the database is unreachable or not writable.
        """
        if self._is_current():
            return  # this avoids the write lock and the slow import of Alembic
        from alembic import command

        with self.schema_change() as connection:
            command.upgrade(migrations_config(connection), "head")

    @contextmanager
    def schema_change(self) -> Iterator[Connection]:
        """Yield a connection for changes of the schema, which are committed on exit.

        An error rolls back all changes. One process changes a schema at a time; the others wait. A
        missing SQLite file is created.

        Raises:
            DatabaseAhead: a newer version of weft has upgraded the database.
            ReferencesBroken: rows refer to rows that are missing.
            DatabaseUnavailable: the database is unreachable or not writable.
        """
        self._make_file()
        with self.access(), _upgrading, self._changer.begin() as connection:
            if connection.dialect.name == "postgresql":  # SQLite has taken its write lock
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
            self._refuse_newer(connection)
            yield connection
            _refuse_broken(connection)

    def check(self) -> str:
        """Return the revision of the schema after a check that it is the current one.

        Raises:
            DatabaseOutdated, DatabaseAhead: the schema has another revision.
            DatabaseUnavailable: the database is unreachable.
        """
        head = migrations.revisions()[-1]
        if self.file is not None and not self.file.exists():
            raise DatabaseOutdated(None, head)  # a connection would create the file
        with self.access(), self._engine.connect() as connection:
            self._refuse_newer(connection)
            revision = _revision(connection)
        if revision != head:
            raise DatabaseOutdated(revision, head)
        return head

    def close(self) -> None:
        """Close every connection."""
        self._silence.close()
        self._engine.dispose()

    @contextmanager
    def access(self) -> Iterator[None]:
        """Convert errors of the driver, and fail at once while the server is known to be silent."""
        self._silence.check()
        try:
            with explained():
                yield
        except DatabaseSilent as error:
            self._silence.begin(error.reason)
            raise

    def _connect(self) -> None:
        """Take a connection and give it back. Raises TimeoutError: the server is silent."""
        with suppress(DatabaseUnavailable):
            try:
                with explained(), self._engine.connect():
                    return
            except DatabaseSilent as error:
                raise TimeoutError from error

    def _make_file(self) -> None:
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            # SQLite gives its other files the mode of this one.
            os.close(os.open(self.file, os.O_CREAT | os.O_RDONLY, 0o600))
        except OSError as error:
            raise DatabaseUnavailable(str(error)) from error

    def _is_current(self) -> bool:
        if self.file is not None and not self.file.exists():
            return False  # a connection would create the file
        with self.access(), self._engine.connect() as connection:
            return _revision(connection) == migrations.revisions()[-1]

    @staticmethod
    def _refuse_newer(connection: Connection) -> None:
        revision, revisions = _revision(connection), migrations.revisions()
        if revision is not None and revision not in revisions:
            raise DatabaseAhead(revision, revisions[-1])


def migrations_config(connection: Connection | None = None) -> "Config":
    """Return the configuration of Alembic: the folder of migrations, and the connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision that Alembic has stored, or None in a new database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    rows = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    return rows.scalar_one_or_none()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseUrlInvalid("it is not a URL") from error  # the URL may contain a password
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DatabaseUrlInvalid("it names no file")
    return parsed


def _create_engine(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            pool_size=_CONNECTIONS,
            max_overflow=_MORE_CONNECTIONS,
            pool_timeout=_CONNECT_SECONDS,
            pool_pre_ping=url.get_backend_name() == "postgresql",
            connect_args=_connect_args(url),
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseUrlInvalid(f"no driver for {url.drivername} is installed") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        reopen_when_writable(engine, str(url.database))
    else:
        event.listen(engine, "begin", _begin_postgresql)
    if engine.dialect.driver == "psycopg":
        from registry.storage.patient import connect_patiently

        connect_patiently(engine)
    return engine


def _connect_args(url: URL) -> dict[str, int]:
    """Return time limits of connections to PostgreSQL; the URL's own parameters stay.

    Without them, a connection that a firewall or a dead host cut would wait for minutes.
    """
    if url.get_backend_name() != "postgresql":
        return {}
    limits = {
        "connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": 1000 * _CUT_SECONDS,
        "keepalives_idle": _CUT_SECONDS, "keepalives_interval": 2, "keepalives_count": 3,
    }  # fmt: skip
    return {name: value for name, value in limits.items() if name not in url.query}


def _one_state(engine: Engine) -> Engine:
    """Return `engine` with snapshot isolation, which is SQLite's default."""
    if engine.dialect.name != "postgresql":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _configure_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver would begin transactions too late and end them at DDL; _begin_sqlite begins them.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    _enter_wal(connection, time.monotonic() + BUSY_TIMEOUT_SECONDS)


def _enter_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Enable the write-ahead log; retry, because SQLite does not wait for a concurrent switch."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # and its extended codes
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    # SQLite ignores this pragma inside a transaction.
    connection.exec_driver_sql(f"PRAGMA foreign_keys = {options.get(_FOREIGN_KEYS, 'ON')}")
    # NORMAL would lose the last commits with the power: a revoked key would come back.
    connection.exec_driver_sql(f"PRAGMA synchronous = {options.get(_SYNCHRONOUS, 'FULL')}")
    connection.exec_driver_sql(options.get(_BEGIN, "BEGIN"))


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(_SYNCHRONOUS) == "NORMAL":
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


def _refuse_broken(connection: Connection) -> None:
    """Check the foreign keys on SQLite, where they are off during a schema change."""
    if connection.dialect.name == "sqlite":
        for table, _, missing, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            raise ReferencesBroken(table, missing)
