"""The time limit of statements, on both databases."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.storage.errors import StatementTimeout
from tests.registry.conftest import BASE, SHAPES

_ENDLESS = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) "
    "SELECT max(i) FROM n"
)
_SECONDS = 0.2


@pytest.fixture(params=["sqlite", "postgresql"])
def limited(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database whose statements have a short limit."""
    unlimited: Database = request.getfixturevalue(f"{request.param}_database")
    url = unlimited._engine.url.render_as_string(hide_password=False)
    database = Database(url, statement_seconds=_SECONDS)
    yield database
    database.close()


def test_a_statement_that_takes_too_long_is_stopped(limited: Database) -> None:
    """It ends soon after the limit, and the connection serves the next statement."""
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(StatementTimeout, match="WEFT_STATEMENT_SECONDS"), limited.read() as one:
            one.execute(_ENDLESS)
        assert time.monotonic() - began < _SECONDS + 3
        with limited.read() as another:
            assert 1 == another.scalar(text("SELECT 1"))


def test_a_stopped_transaction_writes_nothing(limited: Database, tmp_path: Path) -> None:
    """What a transaction wrote before the stop is rolled back, and its lock is free."""
    registry = Registry(limited, LocalBlobs(tmp_path / "blobs"))
    with suppress(StatementTimeout), limited.transaction() as session:
        session.execute(text("UPDATE revision SET number = 7"))
        session.execute(_ENDLESS)
    assert 7 != registry.search.finder.revision()
    registry.bases.add(BASE, shapes=SHAPES, architecture=None)


def test_the_limit_is_for_each_statement(limited: Database) -> None:
    """A session may last longer than the limit."""
    with limited.read() as session:
        for _ in range(3):
            assert 1 == session.scalar(text("SELECT 1"))
            time.sleep(_SECONDS / 2)
