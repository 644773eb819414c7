"""Dump and restore: every row of every table, from either database into either."""

import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from registry.references import parse_reference
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.changes import ChangesRow
from registry.storage.database import Database
from registry.storage.errors import DatabaseOutdated
from registry.storage.models import NameRow, RevisionRow, Table
from registry.upkeep import queries
from registry.upkeep.dump import dump
from registry.upkeep.dump_format import encode, kind_of
from registry.upkeep.errors import DatabaseNotEmpty, DumpFailed
from registry.upkeep.restore import restore
from tests.postgresql import Server
from tests.reading import read_adapter
from tests.registry.conftest import Register, tensors, write_adapter
from tests.registry.rows import MOMENT, fill


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database without tables, of either kind."""
    with ExitStack() as closing:
        url = f"sqlite:///{tmp_path / 'target' / 'weft.db'}"
        if request.param == "postgresql":
            server: Server = request.getfixturevalue("postgresql")
            url = server.create()
            closing.callback(server.drop, url)
        made = Database(url)
        closing.callback(made.close)
        yield made


@pytest.fixture
def filled(sqlite_database: Database) -> Database:
    """A SQLite database with a row in every table."""
    return _filled(sqlite_database, nulls=False)


def _filled(database: Database, *, nulls: bool) -> Database:
    with database.transaction() as session:
        for seeded in (ChangesRow, RevisionRow):
            session.execute(delete(seeded))
        fill(session, nulls=nulls)
    return database


def everything(database: Database) -> dict[str, list[list[Any]]]:
    """Return all rows of all tables as JSON values, but the count of changes, which goes on."""
    with database.read() as session:
        return {
            name: [
                [encode(kind_of(c.type), v) for c, v in zip(table.columns, row, strict=True)]
                for row in queries.all_rows(session, name)
            ]
            for name, table in Table.metadata.tables.items()
            if name != "changes"
        }


@pytest.mark.parametrize("nulls", [False, True])
def test_every_row_of_every_table_comes_back(
    database: Database, target: Database, tmp_path: Path, nulls: bool
) -> None:
    """Each value is unchanged between SQLite and PostgreSQL in all four directions."""
    _filled(database, nulls=nulls)
    dumped = dump(database, tmp_path / "d.gz")
    assert dict.fromkeys(Table.metadata.tables, 1) == dumped.rows
    assert dumped == restore(target, tmp_path / "d.gz")
    target.check()
    assert everything(database) == everything(target)


def test_a_registry_goes_on_where_it_was_dumped(
    registry: Registry, register: Register, database: Database, blobs: LocalBlobs,
    target: Database, tmp_path: Path,
) -> None:  # fmt: skip
    """After a move, names resolve, files are found, and numbers and histories continue."""
    first, second = register("legal", alias="prod"), register("legal", seed=1)
    dump(database, tmp_path / "d.gz")
    restore(target, tmp_path / "d.gz")
    moved = Registry(target, blobs)
    assert read_adapter(registry, "legal") == read_adapter(moved, "legal")
    assert registry.catalogue.models() == moved.catalogue.models()
    done = moved.adapters.register(
        write_adapter(tmp_path / "n", tensors(seed=2)), name="legal", alias="prod"
    )
    assert 3 == done.version.number
    assert [1, 3] == [move.to_number for move in read_adapter(moved, "legal").alias_moves]
    assert moved.versions.resolve(parse_reference(first)) == registry.versions.resolve(
        parse_reference(first)
    )
    assert {first, second, done.version.digest} == blobs.digests()


def test_an_empty_database_that_was_upgraded_already_will_do(
    filled: Database, target: Database, tmp_path: Path
) -> None:
    """The target may have tables and the rows that migrations insert."""
    dump(filled, tmp_path / "d.gz")
    target.upgrade()
    restore(target, tmp_path / "d.gz")
    assert everything(filled) == everything(target)


def test_a_database_with_rows_is_refused(
    filled: Database, target: Database, tmp_path: Path
) -> None:
    """The second restore names the tables with rows and changes nothing."""
    dump(filled, tmp_path / "d.gz")
    restore(target, tmp_path / "d.gz")
    before = everything(target)
    with pytest.raises(DatabaseNotEmpty, match=r"adapter_versions.*restore into an empty database"):
        restore(target, tmp_path / "d.gz")
    assert before == everything(target)


def test_the_file_is_its_owners_alone(filled: Database, tmp_path: Path) -> None:
    """Only the owner can read a dump, because it contains hashes of keys."""
    dump(filled, tmp_path / "d.gz")
    assert 0o600 == stat.S_IMODE((tmp_path / "d.gz").stat().st_mode)


def test_the_same_rows_are_the_same_file(filled: Database, tmp_path: Path) -> None:
    """Two dumps of one state have the same bytes."""
    dump(filled, tmp_path / "a.gz")
    dump(filled, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_a_dump_overwrites_nothing(filled: Database, tmp_path: Path) -> None:
    """An existing file stays unchanged."""
    (tmp_path / "d.gz").write_text("precious")
    with pytest.raises(DumpFailed, match="File exists"):
        dump(filled, tmp_path / "d.gz")
    assert "precious" == (tmp_path / "d.gz").read_text()


def test_a_dump_that_fails_leaves_no_file(
    filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed dump leaves no file."""

    def fail(*_: object) -> Iterator[Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(queries, "all_rows", fail)
    with pytest.raises(DumpFailed, match="No space left"):
        dump(filled, tmp_path / "d.gz")
    assert not (tmp_path / "d.gz").exists()


def test_only_this_releases_schema_is_dumped(tmp_path: Path) -> None:
    """A database without tables is outdated, and no file is created."""
    with pytest.raises(DatabaseOutdated, match="weft db upgrade"):
        dump(Database(f"sqlite:///{tmp_path / 'a.db'}"), tmp_path / "d.gz")
    assert [] == list(tmp_path.iterdir())


def test_progress_is_told(sqlite_database: Database, tmp_path: Path) -> None:
    """Dump and restore report the rows that are done and the total."""
    with sqlite_database.transaction() as session:
        names = (NameRow(name=f"n{n}", kind="adapter", visibility="public", created_at=MOMENT,
                         created_by="me") for n in range(1001))  # fmt: skip
        session.add_all(names)
    target = Database(f"sqlite:///{tmp_path / 'target.db'}")
    steps: list[tuple[int, int]] = []
    dumped = dump(sqlite_database, tmp_path / "d.gz", progress=lambda *step: steps.append(step))
    restore(target, tmp_path / "d.gz", progress=lambda *step: steps.append(step))
    assert {dumped.total} == {total for _, total in steps}
    assert len(steps) >= 4
    assert all(done <= total for done, total in steps)
