"""kill -9 at every step of an import from a folder or an upload; test_hub_crash.py covers the
Hub.

Whatever the step, each adapter is there wholly or not at all, what is left over is garbage that a
collection knows, and importing again completes.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from merge.peft_format import WeightsWriter
from registry import adapters as registering
from registry.adapters import Adapters
from registry.search.embeddings import Embeddings
from registry.search.finder import Finder
from registry.service import Registry
from registry.sources import upload
from registry.sources.folder import import_folder
from registry.sources.tar_stream import _Reader
from registry.sources.upload import import_tar
from registry.storage.blobs import LocalBlobs
from registry.versions import adapters
from tests.postgresql import Server
from tests.registry.conftest import tensors, write_adapter
from tests.registry.crashing import (
    Fault,
    Place,
    check_tidy,
    check_whole,
    die_at,
    killed,
    sqlite_place,
)

# From the look at a folder to the answer, in this order.
STEPS = {
    "before admission": Fault(Adapters, "check", after=False),
    "after admission": Fault(Adapters, "check", after=True),
    "before staging": Fault(adapters, "normalise_folder", after=False),
    "in the middle of staging": Fault(WeightsWriter, "write", after=True),
    "after staging": Fault(adapters, "normalise_folder", after=True),
    "after one file is safe": Fault(os, "fsync", after=True),
    "after both files are safe": Fault(os, "fsync", after=True, call=2),
    "after their folder is safe": Fault(os, "fsync", after=True, call=3),
    "before the rename": Fault(Path, "rename", after=False),
    "after the rename": Fault(Path, "rename", after=True),
    "before the rename is safe": Fault(os, "fsync", after=False, call=4),
    "after adoption": Fault(LocalBlobs, "adopt", after=True),
    "after the staging place went": Fault(shutil, "rmtree", after=True),
    "before the embeddings": Fault(Embeddings, "prepare", after=False),
    "before the name": Fault(adapters, "claim", after=False),
    "after the name": Fault(adapters, "claim", after=True),
    "after the version": Fault(adapters, "add_version", after=True),
    "after the embeddings": Fault(Embeddings, "add", after=True),
    "after the alias": Fault(registering, "move_alias", after=True),
    "before the commit": Fault(Session, "commit", after=False),
    "after the commit": Fault(Session, "commit", after=True),
    "before the answer": Fault(Finder, "similar", after=False),
    "after the answer": Fault(Adapters, "register", after=True),
}
UPLOAD_STEPS = {
    "before the first byte": Fault(upload, "_write", after=False),
    "in the middle of a file": Fault(_Reader, "some", after=True, call=4),
    "after the last byte": Fault(upload, "_write", after=True),
    **STEPS,
    "before the upload's place goes": Fault(shutil, "rmtree", after=False, call=2),
}
WHOLE = {
    "after the commit", "before the answer", "after the answer", "before the upload's place goes",
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, empty_database: Path) -> Place:
    """The registry's location."""
    return sqlite_place(tmp_path / "store", empty_database)


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_in_the_second_of_two_folders(place: Place, tmp_path: Path, step: str) -> None:
    """The first adapter is registered, the second completely or not at all; the next run
    completes it.
    """
    crash_in_folders(place, tmp_path / "sent", step)


@pytest.mark.parametrize("step", ["after adoption", "before the commit", "after the commit"])
def test_a_crash_beside_postgresql(
    postgresql: Server, empty_postgresql: str, tmp_path: Path, step: str
) -> None:
    """PostgreSQL rolls back the uncommitted transaction."""
    place = Place(postgresql.create(empty_postgresql), tmp_path / "store").with_base()
    crash_in_folders(place, tmp_path / "sent", step)
    postgresql.drop(place.url)


def crash_in_folders(place: Place, sent: Path, step: str) -> None:
    """Import two folders, die in the second, look, and import again."""
    for seed, name in enumerate(("a", "b")):
        write_adapter(sent / name, tensors(seed=seed))

    def work(fault: Fault | None) -> list[str]:
        with place.opened() as registry:
            found = import_folder(registry, sent, name="acme", alias="prod")
            first = next(found).verdict
            if fault is not None:
                die_at(fault)
            return [first, *(each.verdict for each in found)]

    killed(lambda: work(STEPS[step]))
    check_whole(place, ["acme/a", "acme/b"] if step in WHOLE else ["acme/a"])
    assert ["known", "known" if step in WHOLE else "admitted"] == work(None)
    check_whole(place, ["acme/a", "acme/b"])
    check_tidy(place)


def chunks(data: bytes) -> Iterator[bytes]:
    """Split bytes as a network does."""
    yield from (data[start : start + 700] for start in range(0, len(data), 700))


def send_tar(registry: Registry, folder: Path) -> bool:
    """Upload a folder as an archive; return whether the version is new."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    sent = chunks(buffer.getvalue())
    return import_tar(registry, sent, name="legal", limit_bytes=10**6, alias="prod").created


@pytest.mark.parametrize("step", UPLOAD_STEPS)
def test_a_crash_in_an_upload(place: Place, tmp_path: Path, step: str) -> None:
    """A repeated upload gives the same version."""
    folder = write_adapter(tmp_path / "sent")

    def work(fault: Fault | None) -> bool:
        with place.opened() as registry:
            if fault is not None:
                die_at(fault)
            return send_tar(registry, folder)

    killed(lambda: work(UPLOAD_STEPS[step]))
    whole = step in WHOLE
    check_whole(place, ["legal"] if whole else [])
    assert (not whole) == work(None)
    check_whole(place, ["legal"])
    check_tidy(place)
