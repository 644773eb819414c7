"""Tests of the tables beyond the checks of the database."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import inspect
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import InvalidRequestError, StatementError

from registry.service import Registry
from registry.storage.columns import UtcDateTime
from registry.storage.database import Database
from registry.storage.insert import insert
from registry.storage.models import NameRow, RecipeRow, Table
from registry.versions import queries
from tests.registry.conftest import BASE


def test_every_constraint_has_a_name() -> None:
    """Every constraint has a name, which errors refer to."""
    for table in Table.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)


def test_every_relationship_raises_when_it_was_not_loaded() -> None:
    """Access to an attribute does not execute a query."""
    for mapper in Table.registry.mappers:
        assert {"raise"} >= {relationship.lazy for relationship in mapper.relationships}


def test_an_unloaded_relationship_is_an_error(registry: Registry, database: Database) -> None:
    """A recipe that was loaded without its ingredients does not load them on access."""
    registry.compositions.save_recipe("text", "0" * 64, BASE, [])
    with database.read() as session:
        recipe = queries.recipe(session, "0" * 64)
        assert isinstance(recipe, RecipeRow)
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            _ = recipe.ingredients


def test_timestamps_come_back_in_utc(database: Database) -> None:
    """A timestamp is stored in UTC and returned aware, in whatever zone it was written."""
    moment = datetime(2026, 5, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    with database.transaction() as session:
        row = NameRow(
            name="a", kind="adapter", visibility="public", created_at=moment, created_by="me"
        )
        insert(session, row)
    with database.read() as session:
        stored = session.get_one(NameRow, "a").created_at
    assert moment == stored
    assert UTC == stored.tzinfo


def test_a_database_that_keeps_zones_makes_no_difference() -> None:
    """A timestamp that PostgreSQL returns in another zone is converted to UTC."""
    kept = datetime(2026, 5, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    returned = UtcDateTime().process_result_value(kept, DefaultDialect())
    assert returned is not None
    assert (datetime(2026, 5, 1, 12, 0, tzinfo=UTC), UTC) == (returned, returned.tzinfo)


def test_a_naive_timestamp_is_refused(database: Database) -> None:
    """A timestamp without a zone is refused."""
    naive = datetime(2026, 5, 1)  # noqa: DTZ001 - the point of the test
    with (
        pytest.raises(StatementError, match="no time zone"),
        database.transaction() as session,
    ):
        insert(session, NameRow(name="a", kind="adapter", created_at=naive, created_by="me"))


def test_the_models_register_every_table() -> None:
    """Importing `registry.storage.models` registers all tables, so `alembic` drops none."""
    code = "from registry.storage.models import Table; print(*sorted(Table.metadata.tables))"
    tables = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert sorted(Table.metadata.tables) == tables


def test_rows_know_their_tables(database: Database) -> None:
    """The upgraded database has every table of the models, and Alembic's own."""
    with database.read() as session:
        tables = set(inspect(session.connection()).get_table_names())
    assert set(Table.metadata.tables) | {"alembic_version"} == tables
