"""A database of the first release is upgraded to this release with all its rows.

`tests/data/first_release.sqlite3` was made by the first release at schema 2026_11_22_0600: a base
with aliases; adapters in a namespace and without, with several versions, one retired, and the same
content under two names; moved aliases; a composition with two versions, one retired; recipes of
versions and of an artifact; artifacts. Later code cannot make it again.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.errors import VersionRetired
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.storage.errors import DatabaseOutdated
from registry.types import ResolvedAdapter, ResolvedComposition
from tests.registry.conftest import BASE, SHAPES, tensors, write_adapter

FIRST_RELEASE = Path(__file__).parents[2] / "data" / "first_release.sqlite3"
ROWS = {
    "adapter_versions": 5, "adapters": 3, "alias_moves": 6, "aliases": 4, "artifacts": 2,
    "base_aliases": 3, "bases": 1, "composition_versions": 2, "compositions": 1, "names": 5,
    "recipe_ingredients": 5, "recipes": 3,
}  # fmt: skip


@pytest.fixture
def first_release(tmp_path: Path) -> Path:
    """A copy of the first release's database."""
    return Path(shutil.copyfile(FIRST_RELEASE, tmp_path / "weft.db"))


@pytest.fixture
def upgraded(first_release: Path) -> Iterator[Database]:
    """The copy with the schema of this release."""
    database = Database(f"sqlite:///{first_release}")
    database.upgrade()
    yield database
    database.close()


def rows_of(path: Path, columns: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return the given columns of each table's rows in a stable order."""
    with sqlite3.connect(path) as connection:
        return {
            table: sorted(connection.execute(f"SELECT {', '.join(names)} FROM {table}"), key=repr)  # noqa: S608
            for table, names in columns.items()
        }


def columns_of(path: Path) -> dict[str, list[str]]:
    """Return the columns of each table."""
    with sqlite3.connect(path) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'alembic_version'"
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in connection.execute(query).fetchall()
        }


def test_the_first_release_has_rows_in_every_table_of_its_own() -> None:
    """The committed file has the rows that the module's docstring lists, at the first revision."""
    stored = rows_of(FIRST_RELEASE, columns_of(FIRST_RELEASE))
    assert ROWS == {table: len(rows) for table, rows in stored.items()}
    with pytest.raises(DatabaseOutdated, match="2026_11_22_0600"):
        Database(f"sqlite:///{FIRST_RELEASE}").check()


def test_every_row_survives_the_upgrade(upgraded: Database, first_release: Path) -> None:
    """Each value of each row of the first release exists after the upgrade, under the same name."""
    upgraded.check()
    columns = columns_of(FIRST_RELEASE)
    assert rows_of(FIRST_RELEASE, columns) == rows_of(first_release, columns)


def test_nothing_in_it_is_broken(upgraded: Database, first_release: Path) -> None:
    """No row refers to a missing row, and SQLite finds no damage."""
    with sqlite3.connect(first_release) as connection:
        assert [] == connection.execute("PRAGMA foreign_key_check").fetchall()
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()


def test_its_references_mean_what_they_meant(upgraded: Database, tmp_path: Path) -> None:
    """Aliases, numbers, bare names, compositions and retired versions resolve as before."""
    registry = Registry(upgraded, LocalBlobs(tmp_path / "blobs"))
    meant = {}
    for text in ("legal@prod", "legal@draft", "legal", "team/tax@prod"):
        resolved = registry.versions.resolve(parse_reference(text))
        assert isinstance(resolved, ResolvedAdapter)
        meant[text] = (resolved.number, resolved.rank)
    expected = {
        "legal@prod": (1, 2),
        "legal@draft": (3, 4),
        "legal": (3, 4),
        "team/tax@prod": (1, 5),
    }
    assert expected == meant
    mix = registry.versions.resolve(parse_reference("mix@prod"))
    assert isinstance(mix, ResolvedComposition)
    assert ("a" * 64, '{"method":"linear"}') == (mix.recipe_digest, mix.recipe_text)
    with pytest.raises(VersionRetired):
        registry.versions.resolve(parse_reference("mirror@1"))


def test_it_goes_on_from_there(upgraded: Database, tmp_path: Path) -> None:
    """The next version of an old adapter is number 4; a registered content keeps its version."""
    registry = Registry(upgraded, LocalBlobs(tmp_path / "blobs"))
    registry.bases.add(BASE, shapes=SHAPES)
    new = write_adapter(tmp_path / "new", tensors(seed=9))
    done = registry.adapters.register(new, name="legal", alias="prod")
    assert (4, True) == (done.version.number, done.created)
    old = write_adapter(tmp_path / "old", tensors(seed=0))
    again = registry.adapters.register(old, name="legal")
    assert (1, False) == (again.version.number, again.created)


def test_modules_of_old_versions_are_found(upgraded: Database, tmp_path: Path) -> None:
    """A filter finds versions of the first release by the ends of their modules' names."""
    finder = Registry(upgraded, LocalBlobs(tmp_path / "blobs")).search.finder
    everything = {hit.reference for hit in finder.search(limit=100)}
    assert everything == {hit.reference for hit in finder.search(filter="module=q_proj")}
    assert everything == {hit.reference for hit in finder.search(filter="module!=v_proj,o_proj")}
    assert () == finder.search(filter="module=proj")
