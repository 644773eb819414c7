"""Locks between the gateways of one database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text

from registry.storage.advisory import AdvisoryLocks
from registry.storage.database import Database
from tests.postgresql import Server

MINE = """
    SELECT state, count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY state
"""
END = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
"""


@pytest.fixture
def gateways(postgresql_database: Database, shared_postgresql: str) -> Iterator[list[Database]]:
    """Two gateways' connections to one database."""
    second = Database(shared_postgresql, statement_seconds=5)
    yield [postgresql_database, second]
    second.close()


def test_a_lock_is_one_gateway_s(gateways: list[Database]) -> None:
    """Two gateways cannot have a lock of one name at once; others of the name it has are free."""
    first, second = map(AdvisoryLocks, gateways)
    assert first.take("a")
    assert not second.take("a")
    assert not first.take("a")
    assert second.take("b")
    first.release("a")
    assert second.take("a")
    second.release("b")
    assert first.take("b")
    for locks in (first, second):
        locks.close()


def test_a_lock_costs_no_connection_of_the_pool_and_no_transaction(
    gateways: list[Database], shared_postgresql: str
) -> None:
    """A gateway's locks are in one session, which is idle outside of any transaction."""
    locks = AdvisoryLocks(gateways[1])
    for name in ("a", "b", "c"):
        assert locks.take(name)
    assert 0 == gateways[1]._engine.pool.checkedout()  # type: ignore[attr-defined]
    engine = create_engine(shared_postgresql)
    with engine.connect() as connection:
        states = {str(state): int(count) for state, count in connection.execute(text(MINE))}
    engine.dispose()
    assert 1 == states["idle"], states
    assert "idle in transaction" not in states
    locks.close()


def test_a_gateway_that_ends_frees_its_locks(
    gateways: list[Database], postgresql: Server, shared_postgresql: str
) -> None:
    """The server frees the locks of a session that ends; the gateway that lost them takes part
    again by itself, and does not notice."""
    first, second = map(AdvisoryLocks, gateways)
    assert first.take("a")
    postgresql.run(END)
    assert second.take("a")
    assert first.take("b")
    assert not first.take("a")
    first.release("a")  # which is the other's now
    assert not first.take("a")
    for locks in (first, second):
        locks.close()


def test_sqlite_has_one_gateway(sqlite_database: Database) -> None:
    """On SQLite a lock is free, and no connection is made for it."""
    locks = AdvisoryLocks(sqlite_database)
    assert not locks.shared
    assert locks.take("a")
    assert not locks.take("a")
    locks.release("a")
    assert locks.take("a")
    assert locks._connection is None
