"""Bytes of files on disk: complete or absent, and only in their folder."""

import hashlib
import os
from pathlib import Path

import pytest

from registry.callers import LOCAL
from registry.jobs.files import Files
from registry.service import Registry
from registry.storage.errors import DatabaseUnavailable
from server.jobs.storage import JobStorage, keep_file, new_id
from tests.server.disks import full_disk


@pytest.fixture
def storage(tmp_path: Path) -> JobStorage:
    """An empty storage."""
    return JobStorage(tmp_path / "jobs")


def test_what_came_is_kept_by_its_id(storage: JobStorage, registry: Registry) -> None:
    """Bytes are counted and hashed while they are written, and stored under their id."""
    incoming = storage.incoming()
    incoming.write(b"one ")
    incoming.write(b"two")
    file = keep_file(registry.files, storage, incoming, "x.jsonl", LOCAL)
    incoming.discard()
    assert b"one two" == storage.file(file.id).read_bytes()
    assert (7, hashlib.sha256(b"one two").hexdigest()) == (file.bytes, file.digest)


def test_what_is_not_kept_is_gone(storage: JobStorage, tmp_path: Path) -> None:
    """An upload that is not kept leaves nothing, even if it was never closed."""
    incoming = storage.incoming()
    incoming.write(b"x")
    incoming.discard()
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_cannot_be_written_down_is_not_kept(
    storage: JobStorage, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes without a row are removed; otherwise they would remain permanently."""

    def away(*_: object, **__: object) -> None:
        raise DatabaseUnavailable("locked")

    monkeypatch.setattr(Files, "add", away)
    incoming = storage.incoming()
    with pytest.raises(DatabaseUnavailable):
        keep_file(registry.files, storage, incoming, "x.jsonl", LOCAL)
    assert [] == list(storage.file(new_id("file")).parent.iterdir())


def test_a_full_disk_keeps_nothing(storage: JobStorage) -> None:
    """A full disk raises the disk's error and leaves nothing."""
    incoming = storage.incoming()
    with full_disk(1000), pytest.raises(OSError, match="File too large"):
        incoming.write(bytes(100_000))
    incoming.discard()
    assert not incoming.path.exists()


def test_only_ids_lead_anywhere(storage: JobStorage) -> None:
    """Only a valid id becomes a path."""
    for text in ("../weft.db", "", "file-" + "g" * 24, "file-" + "0" * 24 + "/x", "/etc/passwd"):
        with pytest.raises(ValueError, match="not an id"):
            storage.file(text)


def test_uploads_of_a_crash_are_swept(storage: JobStorage) -> None:
    """Old partial uploads are removed; running ones remain."""
    old, young = storage.incoming(), storage.incoming()
    os.utime(old.path, (0, 0))
    storage.sweep(older_than_seconds=3600)
    assert (False, True) == (old.path.exists(), young.path.exists())
    for incoming in (old, young):
        incoming.discard()
