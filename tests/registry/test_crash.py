"""kill -9 at every step of an import leaves nothing or a whole version, and again completes it."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from merge.peft_format import WeightsWriter
from registry import adapters, naming
from registry.blobs import LocalBlobs
from registry.database import Database
from registry.errors import UnknownReference
from registry.references import parse_reference
from registry.service import Registry
from registry.testing import temporary_registry
from tests.registry.conftest import BASE, SHAPES, write_adapter

# Where the lights go out: the owner of a function, its name, and whether it has run by then.
FAULTS: dict[str, tuple[object, str, bool]] = {
    "before the copy": (adapters, "normalise_folder", False),
    "in the middle of the copy": (WeightsWriter, "write", True),
    "after the copy": (adapters, "normalise_folder", True),
    "before the files are safe": (os, "fsync", False),
    "before the rename": (Path, "rename", False),
    "after the rename": (Path, "rename", True),
    "after the files are stored": (LocalBlobs, "adopt", True),
    "after the name": (adapters, "claim", True),
    "before the alias": (naming, "move_alias", False),
    "after the alias": (naming, "move_alias", True),
    "before the commit": (Session, "commit", False),
    "after the commit": (Session, "commit", True),
}
WHOLE = {"after the commit"}


def _deadly(function: Callable[..., object], *, after: bool) -> Callable[..., object]:
    def die(*args: object, **options: object) -> None:
        if after:
            function(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def _import_and_die(root: Path, folder: Path, fault: str) -> None:
    registry = temporary_registry(root)
    owner, name, after = FAULTS[fault]
    setattr(owner, name, _deadly(getattr(owner, name), after=after))
    registry.register(folder, name="legal", alias="prod")


def _prepare(root: Path) -> None:
    """Make a registry with a base; SQLite must not be open when the child is forked."""
    database = Database(f"sqlite:///{root / 'weft.db'}")
    database.upgrade()
    Registry(database, LocalBlobs(root / "blobs")).add_base(BASE, shapes=SHAPES)
    database.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_crash_leaves_nothing_or_a_whole_version(tmp_path: Path, fault: str) -> None:
    """Version, alias and files are all there or none is to be seen; registering again succeeds."""
    folder, root = write_adapter(tmp_path / "a"), tmp_path / "store"
    _prepare(root)
    child = multiprocessing.get_context("fork").Process(
        target=_import_and_die, args=(root, folder, fault)
    )
    child.start()
    child.join()
    registry, blobs = temporary_registry(root), LocalBlobs(root / "blobs")
    assert -signal.SIGKILL == child.exitcode
    if fault in WHOLE:
        assert ["legal", "legal@prod"] == [model.id for model in registry.model_ids()]
    else:
        assert () == registry.model_ids()
        with pytest.raises(UnknownReference):
            registry.resolve(parse_reference("legal"))
    for digest in blobs.digests():
        blobs.verify(digest)
    again = registry.register(folder, name="legal", alias="prod")
    assert (fault not in WHOLE) == again.created
    assert {again.version.digest} == blobs.digests()
    blobs.sweep(older_than_seconds=0)
    assert [] == list((root / "blobs" / ".workspaces").iterdir())
