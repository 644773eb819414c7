"""The connection to the database, and the only commit in the project.

SQLite by default: write-ahead log, foreign keys on, and writers that queue for ten seconds rather
than fail. PostgreSQL with the `vector` extension by its URL.
Not covered: tables (`registry.storage.models`) and statements (`registry.versions.queries`).
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

import migrations
from registry.callers import LOCAL, Caller
from registry.storage.errors import (
    DatabaseAhead,
    DatabaseOutdated,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    ReferencesBroken,
    ValueRefused,
)

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_SECONDS = 10
_WAL_RETRY_SECONDS = 0.01
_BEGIN = "sqlite_begin"
_FOREIGN_KEYS = "sqlite_foreign_keys"
# Whoever upgrades a PostgreSQL database holds this advisory lock; any number that is ours alone.
_UPGRADE_LOCK = 0x77656674

ReadSession = NewType("ReadSession", Session)
WriteSession = NewType("WriteSession", ReadSession)

# Alembic keeps the running environment in a module: one upgrade at a time per process.
_upgrading = threading.Lock()


class Database:
    """A database by URL, for example `sqlite:////var/weft/weft.db`. Safe to share by threads.

    Raises:
        DatabaseUrlInvalid: the URL has no meaning, no driver, or no file (SQLite in memory would
            be another database in each thread).
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self._file: Path | None = None
        if parsed.get_backend_name() == "sqlite":
            self._file = Path(str(parsed.database))
        self._engine = _create_engine(parsed)
        # Writers take the lock when they begin: a lock taken at the first write could not be
        # waited for, since what was read before it might be stale by then.
        self._writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        # SQLite changes a table by copying it and dropping the old one, which others refer to.
        self._changer = self._writer.execution_options(**{_FOREIGN_KEYS: "OFF"})
        self._reader = _one_state(self._engine)

    @contextmanager
    def read(self, caller: Caller = LOCAL) -> Iterator[ReadSession]:
        """Give a session that changes nothing and sees one state of the database throughout.

        It works for `caller`: statements that find things by name or digest find what is
        visible to the caller (`registry.access.visibility`).

        Raises:
            DatabaseUnavailable: it cannot be reached, read or has no tables.
        """
        with _explained(), Session(self._reader, autoflush=False) as session:
            session.info["caller"] = caller
            yield ReadSession(session)

    @contextmanager
    def transaction(self, caller: Caller = LOCAL) -> Iterator[WriteSession]:
        """Give a session whose changes are committed together at the end, or not at all.

        It works for `caller`, as that of `read` does. On SQLite one transaction runs at a time,
        the others wait for it.

        Raises:
            DatabaseUnavailable: it cannot be reached or written, or was busy for too long.
        """
        with _explained(), Session(self._writer, expire_on_commit=False) as session:
            session.info["caller"] = caller
            session.connection()  # begins now, so that every read below sees the last commit
            yield WriteSession(ReadSession(session))
            session.commit()

    def upgrade(self) -> None:
        """Bring the schema to this weft's revision, in one transaction; creates a SQLite file.

        Raises:
            DatabaseAhead: a newer weft has been here.
            DatabaseUnavailable: it cannot be reached or written.
        """
        if self._is_current():
            return  # without the write lock, and without Alembic, which takes a while to import
        from alembic import command

        with self.schema_change() as connection:
            command.upgrade(migrations_config(connection), "head")

    @contextmanager
    def schema_change(self) -> Iterator[Connection]:
        """Give a connection whose tables and rows change together at the end, or not at all.

        One process changes a schema at a time, the others wait for it; creates a SQLite file.

        Raises:
            DatabaseAhead: a newer weft has been here.
            ReferencesBroken: rows would be left that refer to nothing.
            DatabaseUnavailable: it cannot be reached or written.
        """
        self._make_folder()
        with _explained(), _upgrading, self._changer.begin() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's writer has its lock by now
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
            self._refuse_newer(connection)
            yield connection
            _refuse_broken(connection)

    def check(self) -> str:
        """Return the schema's revision, which must be this weft's.

        Raises:
            DatabaseOutdated, DatabaseAhead: it is not.
            DatabaseUnavailable: it cannot be reached.
        """
        head = migrations.revisions()[-1]
        if self._file is not None and not self._file.exists():
            raise DatabaseOutdated(None, head)  # connecting would create the file
        with _explained(), self._engine.connect() as connection:
            self._refuse_newer(connection)
            found = _revision(connection)
        if found != head:
            raise DatabaseOutdated(found, head)
        return head

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _make_folder(self) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnavailable(str(error)) from error

    def _is_current(self) -> bool:
        if self._file is not None and not self._file.exists():
            return False  # connecting would create the file
        with _explained(), self._engine.connect() as connection:
            return _revision(connection) == migrations.revisions()[-1]

    @staticmethod
    def _refuse_newer(connection: Connection) -> None:
        revision, known = _revision(connection), migrations.revisions()
        if revision is not None and revision not in known:
            raise DatabaseAhead(revision, known[-1])


def migrations_config(connection: Connection | None = None) -> "Config":
    """Return what Alembic needs to know: where the migrations are, and the connection to use."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", migrations.__path__[0].replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection) -> str | None:
    """Return the schema's revision as Alembic has written it down; None in a new database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    rows = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
    return rows.scalar_one_or_none()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseUrlInvalid("it is not a URL") from error  # the text may hold a password
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise DatabaseUrlInvalid("it names no file")
    return parsed


def _create_engine(url: URL) -> Engine:
    try:
        engine = create_engine(url)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseUrlInvalid(f"no driver for {url.drivername} is installed") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _one_state(engine: Engine) -> Engine:
    """Return `engine` with transactions that see one state, as SQLite's do by themselves."""
    if engine.dialect.name != "postgresql":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _configure_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin too late and end at DDL; _begin_sqlite begins them.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    connection.execute("PRAGMA synchronous = NORMAL")
    _enter_wal(connection, time.monotonic() + BUSY_TIMEOUT_SECONDS)


def _enter_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch a new file to the write-ahead log; SQLite itself does not wait for others doing so."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # with any extended code
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    # Inside a transaction SQLite ignores this one.
    connection.exec_driver_sql(f"PRAGMA foreign_keys = {options.get(_FOREIGN_KEYS, 'ON')}")
    connection.exec_driver_sql(options.get(_BEGIN, "BEGIN"))


def _refuse_broken(connection: Connection) -> None:
    """Check what foreign keys would have: PostgreSQL's were never off."""
    if connection.dialect.name == "sqlite":
        for table, _, missing, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            raise ReferencesBroken(table, missing)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the driver says of the database's state into an error of ours."""
    try:
        yield
    except IntegrityError:
        raise  # a rule of ours: registry.queries knows them by name
    except DataError as error:
        raise ValueRefused(str(error.orig)) from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise ValueRefused(str(error)) from error
    except DBAPIError as error:
        raise DatabaseUnavailable(_first_reason(error)) from error
    except PoolTimeout as error:
        raise DatabaseUnavailable("every connection is taken") from error


def _first_reason(error: DBAPIError) -> str:
    """Return what the driver said first.

    A full disk ends SQLite's transaction, and going back to a savepoint of it then fails for a
    reason that does not help.
    """
    reason, cause = str(error.orig), error.__context__
    while cause is not None:
        if isinstance(cause, DBAPIError) and not isinstance(cause, IntegrityError):
            reason = str(cause.orig)
        cause = cause.__context__
    return reason
