"""kill -9 at every step of an import from the Hub: nothing or a whole version; again completes."""

import multiprocessing
import signal
from pathlib import Path

import pytest
from huggingface_hub import file_download
from sqlalchemy.orm import Session

from merge.peft_format import WeightsWriter
from registry import adapters
from registry.admission import MAX_BYTES
from registry.blobs import LocalBlobs
from registry.database import Database
from registry.imports import ImportLog
from registry.service import Registry
from registry.sources.hub import HubImport
from registry.sources.hub_address import HubAddress
from registry.sources.hub_client import HubClient
from registry.testing import temporary_registry
from tests.registry.conftest import BASE, SHAPES
from tests.registry.sources.conftest import Put
from tests.registry.sources.fake_hub import FakeHub
from tests.registry.test_crash import _deadly

# Where the lights go out: the owner of a function, its name, whether it has run by then, and at
# which call.
FAULTS: dict[str, tuple[object, str, bool, int]] = {
    "after the look": (HubClient, "look", True, 1),
    "before the first download": (HubClient, "fetch", False, 1),
    "in the middle of a download": (file_download, "http_get", False, 3),
    "after a download, before its hash": (file_download, "http_get", True, 3),
    "after the config": (HubClient, "fetch", True, 1),
    "after the weights": (HubClient, "fetch", True, 3),
    "before admission": (Registry, "check", False, 2),
    "in the middle of the copy": (WeightsWriter, "write", True, 1),
    "after the files are stored": (LocalBlobs, "adopt", True, 1),
    "before the name": (adapters, "claim", False, 1),
    "before the commit": (Session, "commit", False, 1),
    "after the commit": (Session, "commit", True, 1),
    "before the memory": (ImportLog, "remember", False, 1),
    "before the memory's commit": (Session, "commit", False, 2),
    "after the memory": (ImportLog, "remember", True, 1),
}
WHOLE = {
    "after the commit", "before the memory", "before the memory's commit", "after the memory",
}  # fmt: skip
ADDRESS = HubAddress("acme/legal")


def _import(root: Path, endpoint: str) -> str:
    client = HubClient(endpoint)
    (done,) = HubImport(temporary_registry(root), client, MAX_BYTES).run([ADDRESS])
    return done.verdict


def _import_and_die(root: Path, endpoint: str, fault: str) -> None:
    owner, name, after, call = FAULTS[fault]
    real, calls = getattr(owner, name), 0

    def counted(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        return (_deadly(real, after=after) if calls == call else real)(*args, **options)

    setattr(owner, name, counted)
    _import(root, endpoint)


def _prepare(root: Path) -> None:
    """Make a registry with a base; SQLite must not be open when the child is forked."""
    database = Database(f"sqlite:///{root / 'weft.db'}")
    database.upgrade()
    Registry(database, LocalBlobs(root / "blobs")).add_base(BASE, shapes=SHAPES)
    database.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_crash_leaves_nothing_or_a_whole_version(
    tmp_path: Path, hub: FakeHub, put: Put, fault: str
) -> None:
    """What is there afterwards is whole, and the next run knows or completes it."""
    root = tmp_path / "store"
    put("acme/legal")
    _prepare(root)
    child = multiprocessing.get_context("fork").Process(
        target=_import_and_die, args=(root, hub.endpoint, fault)
    )
    child.start()
    child.join()
    blobs = LocalBlobs(root / "blobs")
    assert -signal.SIGKILL == child.exitcode
    expected = ["acme/legal"] if fault in WHOLE else []
    assert expected == [model.id for model in temporary_registry(root).model_ids()]
    for digest in blobs.digests():
        blobs.verify(digest)
    assert ("known" if fault in WHOLE else "admitted") == _import(root, hub.endpoint)
    assert "known" == _import(root, hub.endpoint)
    assert 1 == len(blobs.digests())
    blobs.sweep(older_than_seconds=-1)
    assert [] == list((root / "blobs" / ".workspaces").iterdir())
