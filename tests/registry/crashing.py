"""Processes that are killed (kill -9) at a chosen point of an import, and what must hold then."""

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
    """Where the lights go out: before or after a function's `call`-th call."""

    owner: object
    name: str
    after: bool
    call: int = 1


def die_at(fault: Fault) -> None:
    """Have this very process be killed there."""
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
    """Run `work` in a child process, which must be killed by it."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert -signal.SIGKILL == child.exitcode


@dataclass(frozen=True)
class Place:
    """Where a registry is. SQLite must not be open when a child is forked."""

    url: str
    root: Path

    @property
    def blobs(self) -> LocalBlobs:
        """The store of its files."""
        return LocalBlobs(self.root / "blobs")

    @contextmanager
    def opened(self) -> Iterator[Registry]:
        """Give the registry."""
        database = Database(self.url)
        yield Registry(database, self.blobs)
        database.close()

    def with_base(self) -> "Place":
        """Make the tiny base known."""
        with self.opened() as registry:
            registry.bases.add(BASE, shapes=SHAPES)
        return self

    def garbage(self) -> set[str]:
        """Return what a collection removes when all files have become old, as they do here."""
        for digest in self.blobs.digests():
            os.utime(self.blobs.path(digest), (0, 0))
        database, artifacts = Database(self.url), LocalBlobs(self.root / "artifacts")
        plan = Collector(database, self.blobs, artifacts, KeepRules()).plan()
        database.close()
        return {item.digest for item in plan}


def sqlite_place(root: Path, empty_database: Path) -> Place:
    """Make a registry that knows the tiny base, on a copy of a database with tables."""
    root.mkdir()
    shutil.copyfile(empty_database, root / "weft.db")
    return Place(f"sqlite:///{root / 'weft.db'}", root).with_base()


def check_whole(place: Place, names: Collection[str]) -> None:
    """Check that exactly these adapters are there, each whole, and that all else is garbage.

    Of each: one version, its alias `prod`, its files as its digest says, and one entry in the log
    of changes.
    """
    with place.opened() as registry:
        found = {model.id for model in registry.catalogue.models()}
        assert {*names, *(f"{name}@prod" for name in names)} == found
        versions = [version for name in names for version in read_adapter(registry, name).versions]
        log = registry.access.audit.page(action="adapter.registered").items
    assert sorted(f"{name}@1" for name in names) == sorted(change.subject for change in log)
    assert len(names) == len(versions)
    digests = {version.digest for version in versions}
    for digest in place.blobs.digests() | digests:
        place.blobs.verify(digest)
    assert place.blobs.digests() - digests == place.garbage()


def check_tidy(place: Place) -> None:
    """Check that nothing is left over but what a sweep takes."""
    assert set() == place.garbage()
    place.blobs.sweep(older_than_seconds=-1)
    assert [] == list((place.root / "blobs" / ".workspaces").iterdir())
