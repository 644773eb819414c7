"""Imports that run out of space: one error, and finished imports remain."""

import errno
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from registry.admission.admit import admit
from registry.errors import RegistryError
from registry.service import Registry
from registry.sources.folder import import_folder
from registry.sources.hub import HubImport
from registry.sources.hub_address import HubAddress
from registry.storage.blobs import LocalBlobs
from registry.storage.errors import DatabaseUnavailable, FolderUnreadable, StorageFailed
from registry.versions import adapters
from tests.registry.conftest import tensors, write_adapter
from tests.registry.sources.conftest import Put
from tests.registry.sources.fake_hub import FakeHub

DISK = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
DATABASE = OperationalError("", None, sqlite3.OperationalError("database or disk is full"))
Filling = Callable[[int], AbstractContextManager[Counter[str]]]


@contextmanager
def failing(owner: object, name: str, error: Exception, after: int) -> Iterator[Counter[str]]:
    """Make a function fail after some calls; count the calls."""
    real, calls = getattr(owner, name), Counter[str]()

    def counted(*args: object, **options: object) -> object:
        calls[name] += 1
        if calls[name] > after:
            raise error
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield calls


def full_disk(after: int) -> AbstractContextManager[Counter[str]]:
    """Limit the store to this number of additional adapters."""
    return failing(LocalBlobs, "adopt", DISK, after)


def full_database(after: int) -> AbstractContextManager[Counter[str]]:
    """Limit the database to this number of additional names."""
    return failing(adapters, "claim", DATABASE, after)


FULL: list[tuple[Filling, type[RegistryError], str]] = [
    (full_disk, StorageFailed, "No space left"),
    (full_database, DatabaseUnavailable, "database or disk is full"),
]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Four adapters."""
    for seed, name in enumerate("abcd"):
        write_adapter(tmp_path / "all" / name, tensors(seed=seed))
    return tmp_path / "all"


@pytest.mark.parametrize(("full", "error", "says"), FULL)
def test_folders(
    registry: Registry, folders: Path, full: Filling, error: type[RegistryError], says: str
) -> None:
    """The third import fails with its reason, the fourth does not start; a second run does both."""
    with full(2) as calls, pytest.raises(error, match=says):
        list(import_folder(registry, folders))
    assert 3 == calls.total()
    assert ["a", "b"] == [item.name for item in registry.catalogue.adapters().items]
    again = [item.verdict for item in import_folder(registry, folders)]
    assert ["known", "known", "admitted", "admitted"] == again


@pytest.mark.parametrize(("full", "error", "says"), FULL)
def test_the_hub(
    importer: HubImport, hub: FakeHub, put: Put, full: Filling, error: type[RegistryError],
    says: str,
) -> None:  # fmt: skip
    """At most one more import per worker starts; a second run fetches only what is missing."""
    wanted = [HubAddress(f"acme/{name}") for name in "abcdefgh"]
    for seed, address in enumerate(wanted):
        put(address.repo, seed=seed)
    with full(2) as calls, pytest.raises(error, match=says):
        list(importer.run(wanted, workers=2))
    assert 3 <= calls.total() <= 6
    hub.seen.clear()
    again = Counter(item.verdict for item in importer.run(wanted, workers=2))
    assert Counter(known=2, admitted=6) == again
    assert 6 * 3 == len(hub.bodies())


def test_a_folder_that_cannot_be_read_stops_no_other(
    registry: Registry, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable folder is an error of one adapter, not of the store."""

    def broken(path: Path, *args: object, **options: object) -> object:
        if path.name == "b":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return admit(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(registry.adapters, "_admit", broken)
    found = {item.name: item for item in import_folder(registry, folders)}
    assert ["admitted", "FolderUnreadable", "admitted", "admitted"] == [
        item.verdict for item in found.values()
    ]
    assert isinstance(found["b"].outcome, FolderUnreadable)
    assert "Input/output error" in found["b"].reasons[0]
