"""Processes that are killed (kill -9) at a chosen point of an import, and checks of the result."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.upkeep.garbage import Collector, KeepRules
from tests.reading import read_adapter
from tests.registry.conftest import BASE, SHAPES


@dataclass(frozen=True)
class Fault:
    """The point of the kill: before or after a function's `call`-th call."""

    owner: object
    name: str
    after: bool
    call: int = 1


def die_at(fault: Fault) -> None:
    """Kill this process at the point."""
    real, calls = getattr(fault.owner, fault.name), 0

    def counted(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == fault.call and not fault.after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **options)
        if calls == fault.call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(fault.owner, fault.name, counted)


def killed(work: Callable[[], object]) -> None:
    """Run `work` in a child process, and check that the point kills it."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert -signal.SIGKILL == child.exitcode


@dataclass(frozen=True)
class Place:
    """The location of a registry. SQLite must not be open when a child is forked."""

    url: str
    root: Path

    @property
    def blobs(self) -> LocalBlobs:
        """Return the blob store."""
        return LocalBlobs(self.root / "blobs")

    @contextmanager
    def opened(self) -> Iterator[Registry]:
        """Yield the registry."""
        database = Database(self.url)
        yield Registry(database, self.blobs)
        database.close()

    def with_base(self) -> "Place":
        """Register the tiny base."""
        with self.opened() as registry:
            registry.bases.add(BASE, shapes=SHAPES)
        return self

    def garbage(self) -> set[str]:
        """Return the garbage that a collection removes when all files are old."""
        for digest in self.blobs.digests():
            os.utime(self.blobs.path(digest), (0, 0))
        database, artifacts = Database(self.url), LocalBlobs(self.root / "artifacts")
        plan = Collector(database, self.blobs, artifacts, KeepRules()).plan()
        database.close()
        return {item.digest for item in plan}


def sqlite_place(root: Path, empty_database: Path) -> Place:
    """Create a registry with the tiny base on a copy of a database with tables."""
    root.mkdir()
    shutil.copyfile(empty_database, root / "weft.db")
    return Place(f"sqlite:///{root / 'weft.db'}", root).with_base()


def check_whole(place: Place, names: Collection[str]) -> None:
    """Check that exactly these adapters exist, each complete, and that the rest is garbage.

    Each adapter has one version, the alias `prod`, files that match its digest, and one entry in
    the audit log.
    """
    with place.opened() as registry:
        ids = {model.id for model in registry.catalogue.models()}
        assert {*names, *(f"{name}@prod" for name in names)} == ids
        versions = [version for name in names for version in read_adapter(registry, name).versions]
        log = registry.access.audit.page(action="adapter.registered").items
    assert sorted(f"{name}@1" for name in names) == sorted(change.subject for change in log)
    assert len(names) == len(versions)
    digests = {version.digest for version in versions}
    for digest in place.blobs.digests() | digests:
        place.blobs.verify(digest)
    assert place.blobs.digests() - digests == place.garbage()


def check_tidy(place: Place) -> None:
    """Check that only files that a sweep removes are left."""
    assert set() == place.garbage()
    place.blobs.sweep(older_than_seconds=-1)
    assert [] == list((place.root / "blobs" / ".workspaces").iterdir())
