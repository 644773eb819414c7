"""Tests of connections, transactions and the errors of the database."""

import sqlite3
import threading
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import Mock

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from registry.storage import database as database_module
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.errors import Conflict, DatabaseUnavailable, DatabaseUrlInvalid
from registry.storage.insert import _constraint, insert
from registry.storage.models import AdapterRow, AliasRow
from registry.versions import queries
from registry.versions.names import claim


def test_a_connection_is_configured_as_promised(sqlite_database: Database) -> None:
    """SQLite has a write-ahead log, foreign keys, a timeout of ten seconds and FULL sync."""
    expected = {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 10000, "synchronous": 2}
    with sqlite_database.read() as session:
        pragmas = {key: session.scalar(text(f"PRAGMA {key}")) for key in expected}
    assert expected == pragmas


def test_a_commit_is_synced_unless_it_may_be_lost(sqlite_database: Database) -> None:
    """Only a transaction that says so commits without a sync, and the next one syncs again."""
    modes = []
    for durable in (True, False, True):
        with sqlite_database.transaction(durable=durable) as session:
            modes.append(session.scalar(text("PRAGMA synchronous")))
    assert [2, 1, 2] == modes


def test_postgresql_may_lose_what_may_be_lost(postgresql_database: Database) -> None:
    """A transaction that need not be durable does not wait for the disk."""
    with postgresql_database.transaction(durable=False) as session:
        assert "off" == session.scalar(text("SHOW synchronous_commit"))


def test_a_transaction_that_fails_changes_nothing(database: Database) -> None:
    """An exception rolls everything back and reaches the caller unchanged."""

    def fail() -> None:
        with database.transaction() as session:
            claim(session, AdapterRow(name="a"), "me")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with database.read() as session:
        assert queries.kind_of(session, "a") is None


def test_a_broken_constraint_is_named_and_the_transaction_lives_on(database: Database) -> None:
    """A conflict rolls back only the rows of its insert."""

    def alias() -> AliasRow:
        return AliasRow(name="a", alias="prod", number=1, moved_at=now(), moved_by="me")

    with database.transaction() as session:
        claim(session, AdapterRow(name="a"), "me")
        insert(session, alias())
        session.expunge_all()
        with pytest.raises(Conflict) as caught:
            insert(session, alias())
    assert "pk_aliases" == caught.value.constraint
    with database.read() as reader:
        assert queries.alias(reader, "a", "prod") is not None


def test_a_conflict_of_another_kind_keeps_the_databases_words(sqlite_database: Database) -> None:
    """If SQLite names no columns, its message replaces the name of the constraint."""
    with pytest.raises(Conflict) as caught, sqlite_database.transaction() as session:
        insert(session, AdapterRow(name="nobody"))
    assert "FOREIGN KEY constraint failed" == caught.value.constraint


def test_a_broken_constraint_outside_of_insert_is_not_hidden(database: Database) -> None:
    """An IntegrityError is not converted; errors of the database's state are."""
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(AdapterRow(name="nobody"))


def test_writers_wait_for_each_other(sqlite_database: Database) -> None:
    """A second transaction begins when the first has ended, and sees its changes."""
    seen: list[str | None] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with sqlite_database.transaction() as session:
            seen.append(queries.kind_of(session, "a"))

    with sqlite_database.transaction() as session:
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait()
        claim(session, AdapterRow(name="a"), "me")
    thread.join()
    assert ["adapter"] == seen


def test_readers_do_not_wait_and_see_one_state(database: Database) -> None:
    """A reader beside a writer sees the state at the start of its transaction."""
    with database.read() as reader:
        assert queries.kind_of(reader, "a") is None
        with database.transaction() as session:
            claim(session, AdapterRow(name="a"), "me")
        assert queries.kind_of(reader, "a") is None


def test_a_lock_held_too_long_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the timeout, the error says that the database is locked."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0)
    impatient = Database(f"sqlite:///{tmp_path / 'weft.db'}")
    impatient.upgrade()
    with (
        impatient.transaction(),
        pytest.raises(DatabaseUnavailable, match="locked"),
        impatient.transaction(),
    ):
        pass


def test_a_file_that_stays_locked_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switching a new file to the write-ahead log under a foreign lock ends with the timeout."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_SECONDS", 0)
    other = sqlite3.connect(tmp_path / "weft.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseUnavailable, match="locked"):
        Database(f"sqlite:///{tmp_path / 'weft.db'}").upgrade()
    other.close()
    Database(f"sqlite:///{tmp_path / 'weft.db'}").upgrade()


def test_missing_tables_are_a_clear_error(tmp_path: Path) -> None:
    """The error for a database without tables names the missing table."""
    bare = Database(f"sqlite:///{tmp_path / 'weft.db'}")
    with pytest.raises(DatabaseUnavailable, match="no such table"), bare.read() as session:
        queries.kind_of(session, "a")


def test_a_full_disk_is_a_clear_error(sqlite_database: Database) -> None:
    """The message of SQLite for a full disk reaches the caller, and nothing is stored."""

    def fill() -> None:
        with sqlite_database.transaction() as session:
            pages = session.scalar(text("PRAGMA page_count"))
            session.execute(text(f"PRAGMA max_page_count = {pages}"))
            for number in range(2000):
                claim(session, AdapterRow(name=f"a{number}"), "me")

    with pytest.raises(DatabaseUnavailable, match="full"):
        fill()
    with sqlite_database.read() as session:
        assert queries.kind_of(session, "a0") is None


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    """A file that is not a database is not overwritten."""
    (tmp_path / "weft.db").write_text("not a database " * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        Database(f"sqlite:///{tmp_path / 'weft.db'}").upgrade()
    assert (tmp_path / "weft.db").read_text().startswith("not a database")


def test_a_place_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """The error names a file that blocks the database's folder."""
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match="file"):
        Database(f"sqlite:///{tmp_path / 'file' / 'weft.db'}").upgrade()


def test_too_many_at_once_is_a_clear_error(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that gets no connection in time receives an error."""
    monkeypatch.setattr(database._engine.pool, "_timeout", 0.01)
    with ExitStack() as connections:
        for _ in range(48):
            connections.enter_context(database.read()).connection()
        with (
            pytest.raises(DatabaseUnavailable, match="every connection is taken"),
            database.read() as session,
        ):
            session.connection()


def test_postgresql_names_the_constraint_itself() -> None:
    """On PostgreSQL, the name of the constraint comes from the driver's diagnostics."""
    original = type("UniqueViolation", (Exception,), {"diag": Mock(constraint_name="pk_names")})
    assert "pk_names" == _constraint(IntegrityError("INSERT", {}, original()))


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("weft.db", "not a URL"),
        ("", "not a URL"),
        ("nosuch://host/db", "nosuch"),
        ("mysql+nosuch://host/db", "nosuch"),
        ("sqlite://", "no file"),
        ("sqlite:///:memory:", "no file"),
    ],
)
def test_a_bad_url_says_what_is_wrong(url: str, word: str) -> None:
    """A malformed URL, a missing driver and a missing file have their own messages."""
    with pytest.raises(DatabaseUrlInvalid, match=word):
        Database(url)


def test_a_password_is_not_repeated() -> None:
    """The error does not quote an unusable URL, because it may contain a password."""
    with pytest.raises(DatabaseUrlInvalid) as caught:
        Database("nosuch://weft:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


def test_close_lets_go_of_the_file(sqlite_database: Database, tmp_path: Path) -> None:
    """An open database has its file open, and a closed one does not."""

    def is_open() -> bool:
        return any("weft.db" in str(path.readlink()) for path in Path("/proc/self/fd").iterdir()
                   if path.is_symlink() and str(tmp_path) in str(path.readlink()))  # fmt: skip

    sqlite_database.check()
    assert is_open()
    sqlite_database.close()
    assert not is_open()
