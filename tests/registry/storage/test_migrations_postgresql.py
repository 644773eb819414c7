"""The schema on PostgreSQL: the same tests as on SQLite, and the vector indexes."""

import multiprocessing
from collections.abc import Iterator

import pgvector.sqlalchemy  # noqa: F401 - reflection learns the type's name from it
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from registry.storage.columns import in_metadata
from registry.storage.database import Database, migrations_config
from registry.storage.errors import DatabaseOutdated
from registry.storage.models import Table
from tests.postgresql import Server

# The vector indexes; other dimensions are scanned.
INDEXED = {
    "ix_embeddings_behaviour_768", "ix_embeddings_text_1024", "ix_embeddings_text_384",
    "ix_embeddings_text_768", "ix_embeddings_weights_2000",
}  # fmt: skip


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    """An empty database."""
    made = postgresql.create()
    yield made
    postgresql.drop(made)


def schema(url: str) -> dict[str, list[str]]:
    """Return the columns, constraints and indexes of every table as text."""
    engine = create_engine(url)
    queries = (
        "SELECT table_name, column_name || ' ' || udt_name || ' ' || is_nullable || ' ' ||"
        " coalesce(column_default, '') FROM information_schema.columns"
        " WHERE table_schema = 'public'",
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid)"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    )
    definitions: dict[str, list[str]] = {}
    with engine.connect() as connection:
        for query in queries:
            for table, definition in connection.execute(text(query)):
                definitions.setdefault(table, []).append(definition)
    engine.dispose()
    definitions.pop("alembic_version", None)
    return {table: sorted(lines) for table, lines in definitions.items()}


def downgrade(url: str) -> None:
    """Downgrade the schema to base."""
    engine = create_engine(url)
    with engine.begin() as connection:
        command.downgrade(migrations_config(connection), "base")
    engine.dispose()


def upgrade(url: str) -> None:
    """Upgrade the schema to head."""
    database = Database(url)
    database.upgrade()
    database.close()


def test_the_revisions_build_what_the_models_say(url: str) -> None:
    """After an upgrade from empty to head, Alembic finds only pgvector's indexes as differences."""
    upgrade(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"compare_type": True, "include_name": in_metadata}
        context = MigrationContext.configure(connection, opts=options)
        assert [] == compare_metadata(context, Table.metadata)
        indexes = {index["name"] for index in inspect(connection).get_indexes("embeddings")}
    engine.dispose()
    assert INDEXED <= indexes


def test_the_schema_is_the_metadata_s_to_the_letter(postgresql: Server, url: str) -> None:
    """Names, checks, defaults and index definitions, which Alembic does not compare, agree.

    The metadata has neither HNSW indexes nor triggers.
    """
    upgrade(url)
    other = postgresql.create()
    engine = create_engine(other)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
        Table.metadata.create_all(connection)
    engine.dispose()
    migrated = {
        table: [line for line in lines if " USING hnsw " not in line and " TRIGGER " not in line]
        for table, lines in schema(url).items()
    }
    assert schema(other) == migrated
    postgresql.drop(other)


def test_down_and_up_again(url: str) -> None:
    """A downgrade to base leaves no table; an upgrade creates the same schema again."""
    upgrade(url)
    first = schema(url)
    downgrade(url)
    assert {} == schema(url)
    with pytest.raises(DatabaseOutdated, match="weft db upgrade"):
        Database(url).check()
    upgrade(url)
    assert first == schema(url)


def test_processes_that_upgrade_at_once_wait_for_each_other(url: str) -> None:
    """One process upgrades under an advisory lock; the others find the current schema."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=upgrade, args=(url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [0, 0] == [process.exitcode for process in processes]
