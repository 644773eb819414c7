"""The blob store is atomic, and its folders are checked against their digests."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME, digest_folder
from registry.errors import DigestInvalid
from registry.storage.blobs import BlobStore, LocalBlobs
from registry.storage.errors import BlobCorrupt, BlobMissing

ABSENT = "0" * 64


def _fill(folder: Path, content: str = "x") -> Path:
    (folder / CONFIG_NAME).write_text(content)
    (folder / WEIGHTS_NAME).write_text(content * 3)
    return folder


def _adopt(blobs: LocalBlobs, content: str = "x") -> str:
    with blobs.workspace() as folder:
        return blobs.adopt(_fill(folder, content))


def _left_behind(root: Path) -> list[str]:
    return [path.name for path in (root / ".workspaces").iterdir()]


def test_the_local_store_is_a_blob_store(blobs: LocalBlobs) -> None:
    """`LocalBlobs` satisfies the protocol `BlobStore`."""
    store: BlobStore = blobs
    assert frozenset() == store.digests()


def test_a_folder_is_found_under_its_digest(blobs: LocalBlobs) -> None:
    """`adopt` moves the folder; `path`, `has`, `digests` and `verify` find it by its digest."""
    digest = _adopt(blobs)
    assert digest == digest_folder(blobs.path(digest))
    assert blobs.has(digest)
    assert {digest} == blobs.digests()
    blobs.verify(digest)


def test_other_files_come_along(blobs: LocalBlobs) -> None:
    """A report beside the weights is kept and does not change the digest."""
    with blobs.workspace() as folder:
        (folder / "report.json").write_text("{}")
        digest = blobs.adopt(_fill(folder))
    assert "{}" == (blobs.path(digest) / "report.json").read_text()
    assert digest == _adopt(blobs)


def test_the_same_content_twice_is_one_folder(blobs: LocalBlobs, tmp_path: Path) -> None:
    """The first copy stays unchanged; the second is removed with its workspace."""
    digest = _adopt(blobs)
    inode = blobs.path(digest).stat().st_ino
    assert digest == _adopt(blobs)
    assert inode == blobs.path(digest).stat().st_ino
    assert [] == _left_behind(tmp_path / "store" / "blobs")


def test_many_threads_adopt_the_same_content(blobs: LocalBlobs) -> None:
    """Concurrent adoptions of one content succeed and store it once."""
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(_adopt(blobs))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [digests[0]] * 8 == digests
    assert {digests[0]} == blobs.digests()


def test_an_error_in_a_workspace_leaves_nothing(blobs: LocalBlobs, tmp_path: Path) -> None:
    """The workspace is removed on every exit."""

    def fail() -> None:
        with blobs.workspace() as folder:
            _fill(folder)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [] == _left_behind(tmp_path / "store" / "blobs")
    assert frozenset() == blobs.digests()


@pytest.mark.parametrize("digest", ["..", ".workspaces", "/etc", "a" * 63, "A" * 64, "", "a\0"])
def test_only_digests_become_paths(blobs: LocalBlobs, digest: str) -> None:
    """A text that is not a digest is refused before any access to the file system."""
    for use in (blobs.has, blobs.path, blobs.verify, blobs.delete):
        with pytest.raises(DigestInvalid):
            use(digest)


def test_what_is_not_there_is_missing(blobs: LocalBlobs) -> None:
    """`path` and `verify` name the missing digest; `delete` has no effect."""
    for use in (blobs.path, blobs.verify):
        with pytest.raises(BlobMissing, match=ABSENT):
            use(ABSENT)
    blobs.delete(ABSENT)
    assert not blobs.has(ABSENT)


def test_changed_and_lost_files_are_found(blobs: LocalBlobs) -> None:
    """A flipped byte and a missing file are corruption, and the error has the actual digest."""
    digest = _adopt(blobs)
    (blobs.path(digest) / WEIGHTS_NAME).write_text("xxy")
    with pytest.raises(BlobCorrupt) as caught:
        blobs.verify(digest)
    assert digest_folder(blobs.path(digest)) == caught.value.found
    (blobs.path(digest) / WEIGHTS_NAME).unlink()
    with pytest.raises(BlobCorrupt, match="No such file"):
        blobs.verify(digest)


def test_deleted_means_gone(blobs: LocalBlobs, tmp_path: Path) -> None:
    """Only the named folder is removed, completely."""
    digest, other = _adopt(blobs), _adopt(blobs, "y")
    blobs.delete(digest)
    assert {other} == blobs.digests()
    assert [] == _left_behind(tmp_path / "store" / "blobs")


def test_two_may_delete_the_same(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another process removes between check and rename is not an error."""
    monkeypatch.setattr(LocalBlobs, "has", lambda *_: True)
    blobs.delete(ABSENT)
    assert frozenset() == blobs.digests()


def test_other_entries_of_the_folder_are_not_blobs(blobs: LocalBlobs, tmp_path: Path) -> None:
    """Files, and folders whose names are not digests, are not listed."""
    digest = _adopt(blobs)
    (tmp_path / "store" / "blobs" / "lost+found").mkdir()
    (tmp_path / "store" / "blobs" / ABSENT).touch()
    assert {digest} == blobs.digests()


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_fails_leaves_the_store_as_it_was(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    """If a sync fails, no folder appears under the digest."""

    def fail(_: int) -> None:
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(failure)):
        _adopt(blobs)
    assert frozenset() == blobs.digests()


def test_a_move_that_fails_is_not_mistaken_for_a_copy(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed rename is an error unless the folder exists already."""

    def fail(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="cross-device"):
        _adopt(blobs)


def test_sweeping_takes_what_a_crash_left_and_nothing_young(
    blobs: LocalBlobs, tmp_path: Path
) -> None:
    """The newest file decides; the number of removed workspaces is returned."""
    assert 0 == blobs.sweep(older_than_seconds=0)
    workspaces = tmp_path / "store" / "blobs" / ".workspaces"
    ages = {"old": (7200, 7200, 7200), "young": (60, 60, 60), "growing": (9000, 9000, 60)}
    for name, (top, below, file) in ages.items():
        folder = workspaces / name / "upload"
        folder.mkdir(parents=True)
        (folder / "half").touch()
        for path, age in ((folder / "half", file), (folder, below), (folder.parent, top)):
            os.utime(path, (time.time() - age, time.time() - age))
    assert 1 == blobs.sweep(older_than_seconds=3600)
    assert {"young", "growing"} == set(_left_behind(tmp_path / "store" / "blobs"))


def test_a_workspace_that_disappears_is_in_use(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace that disappears during a sweep is neither an error nor counted."""
    look = Path.lstat
    with blobs.workspace() as folder:

        def late(path: Path) -> os.stat_result:
            if path == folder:
                folder.rmdir()
            return look(path)

        monkeypatch.setattr(Path, "lstat", late)
        assert 0 == blobs.sweep(older_than_seconds=-1)
