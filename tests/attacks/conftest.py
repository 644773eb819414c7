"""Fixtures: a registry in a watched folder, where only the registry's store may change."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from tests.registry.conftest import BASE, SHAPES, write_adapter

OUTSIDE = "precious.txt"


def surroundings(root: Path) -> dict[str, str]:
    """Return the mode, link count, time and content of each entry outside the store, by path."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] == "store":
            continue
        state = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        facts = (
            state.st_mode,
            state.st_nlink,
            state.st_mtime_ns,
            hashlib.sha256(content).hexdigest(),
        )
        found[name] = repr(facts)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files to attack, an adapter to import and, in `store`, a registry."""
    made = tmp_path / "root"
    write_adapter(made / "in" / "good")
    (made / OUTSIDE).write_text("precious")
    (made / "a").mkdir()
    (made / "a" / "b").write_text("precious too")
    return made


@pytest.fixture
def store(root: Path) -> LocalBlobs:
    """The store of the registry's files."""
    return LocalBlobs(root / "store" / "blobs")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry that knows the tiny base, to be copied."""
    path = tmp_path_factory.mktemp("template")
    database = Database(f"sqlite:///{path / 'weft.db'}")
    database.upgrade()
    Registry(database, LocalBlobs(path / "blobs")).bases.add(BASE, shapes=SHAPES)
    database.close()
    return path


@pytest.fixture
def registry(root: Path, template: Path, store: LocalBlobs) -> Iterator[Registry]:
    """The registry; it knows the tiny base."""
    shutil.copytree(template, root / "store")
    database = Database(f"sqlite:///{root / 'store' / 'weft.db'}")
    yield Registry(database, store)
    database.close()


@pytest.fixture
def watched(root: Path, registry: Registry, store: LocalBlobs) -> Iterator[None]:
    """Check after the test that nothing outside the store changed and that the store is intact."""
    before = surroundings(root)
    yield
    assert before == surroundings(root)
    top = {entry.name for entry in os.scandir(root / "store")}
    assert top <= {"weft.db", "weft.db-wal", "weft.db-shm", "blobs"}
    for digest in store.digests():
        store.verify(digest)
    if (root / "store" / "blobs").is_dir():
        inside = {entry.name for entry in os.scandir(root / "store" / "blobs")}
        assert inside <= store.digests() | {".workspaces"}
