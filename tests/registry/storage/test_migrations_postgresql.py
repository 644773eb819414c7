"""The schema over time on PostgreSQL: the same promises as on SQLite, and the vector indexes."""

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

# What an operator may count on: other dims are scanned.
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
    """Every table's columns, constraints and indexes, in words."""
    engine = create_engine(url)
    queries = (
        "SELECT table_name, column_name || ' ' || udt_name || ' ' || is_nullable || ' ' ||"
        " coalesce(column_default, '') FROM information_schema.columns"
        " WHERE table_schema = 'public'",
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid)"
        " FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    )
    found: dict[str, list[str]] = {}
    with engine.connect() as connection:
        for query in queries:
            for table, said in connection.execute(text(query)):
                found.setdefault(table, []).append(said)
    engine.dispose()
    found.pop("alembic_version", None)
    return {table: sorted(lines) for table, lines in found.items()}


def downgrade(url: str) -> None:
    """Take the schema back to nothing."""
    engine = create_engine(url)
    with engine.begin() as connection:
        command.downgrade(migrations_config(connection), "base")
    engine.dispose()


def upgrade(url: str) -> None:
    """Bring the schema to this release's revision."""
    database = Database(url)
    database.upgrade()
    database.close()


def test_the_revisions_build_what_the_models_say(url: str) -> None:
    """From empty to head, Alembic finds no difference to the metadata but pgvector's indexes."""
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
    """What Alembic does not compare agrees too: names, checks, defaults, index definitions."""
    upgrade(url)
    other = postgresql.create()
    engine = create_engine(other)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
        Table.metadata.create_all(connection)
    engine.dispose()
    migrated = {
        table: [line for line in lines if " USING hnsw " not in line]
        for table, lines in schema(url).items()
    }
    assert schema(other) == migrated
    postgresql.drop(other)


def test_down_and_up_again(url: str) -> None:
    """Head to base leaves no table of ours; base to head builds the same schema again."""
    upgrade(url)
    first = schema(url)
    downgrade(url)
    assert {} == schema(url)
    with pytest.raises(DatabaseOutdated, match="weft db upgrade"):
        Database(url).check()
    upgrade(url)
    assert first == schema(url)


def test_processes_that_upgrade_at_once_wait_for_each_other(url: str) -> None:
    """One does it under an advisory lock, the others find it done."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=upgrade, args=(url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [0, 0] == [process.exitcode for process in processes]
