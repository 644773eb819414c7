"""Folders in an object store: visible whole or not at all, verified, and removed with care."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME, digest_folder
from registry.errors import DigestInvalid
from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.errors import BlobCorrupt, BlobMissing
from registry.storage.objects import PIECE_BYTES, AlreadyThere, Objects

ABSENT = "0" * 64


@pytest.fixture(params=["memory", "file"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty object store."""
    place = tmp_path / "bucket"
    return Objects(f"{request.param}://{place}")


@pytest.fixture
def bucket(objects: Objects) -> Bucket:
    """Folders of the object store."""
    return Bucket(objects, "versions")


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobs:
    """The store of a reader."""
    return LocalBlobs(tmp_path / "local")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[str, Path]]:
    """Return a function that writes a folder and returns its digest."""

    def write(content: bytes = b"weights", **files: str) -> tuple[str, Path]:
        folder = tmp_path / f"folder-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / CONFIG_NAME).write_text("{}")
        (folder / WEIGHTS_NAME).write_bytes(content)
        for name, text in files.items():
            (folder / name).write_text(text)
        return digest_folder(folder), folder

    return write


Write = Callable[..., tuple[str, Path]]


def _keys(objects: Objects) -> list[str]:
    return sorted(item.key for item in objects.list("versions"))


def test_a_folder_comes_back_as_it_was(bucket: Bucket, local: LocalBlobs, write: Write) -> None:
    """A stored folder is fetched with the same bytes in each file, large ones in pieces."""
    digest, folder = write(bytes(range(256)) * (PIECE_BYTES // 256) + b"rest", report="{}")
    assert bucket.put(digest, folder)
    assert bucket.has(digest)

    fetched = bucket.fetch(digest, local)

    assert fetched == local.path(digest)
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }


def test_the_same_folder_is_uploaded_once(
    bucket: Bucket, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second `put` uploads no file and returns False."""
    digest, folder = write()
    bucket.put(digest, folder)
    monkeypatch.setattr(Objects, "upload", None)
    assert not bucket.put(digest, folder)


def test_a_folder_without_manifest_is_not_there(
    bucket: Bucket, objects: Objects, local: LocalBlobs, write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An upload that stops before its manifest is invisible, and a repeated one completes it."""
    digest, folder = write()

    def stopped(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "create", stopped)
        with pytest.raises(ConnectionError):
            bucket.put(digest, folder)
    assert 2 == len(_keys(objects))
    assert not bucket.has(digest)
    with pytest.raises(BlobMissing):
        bucket.fetch(digest, local)
    assert bucket.put(digest, folder)
    bucket.fetch(digest, local)


def test_the_manifest_is_last_and_the_weights_are_first(
    bucket: Bucket, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, other files, config, manifest: the order in which objects are written."""
    digest, folder = write(report="{}")
    order: list[str] = []
    upload, create = Objects.upload, Objects.create

    def noted_upload(self: Objects, file: Path, key: str) -> None:
        order.append(key.rpartition("/")[2])
        upload(self, file, key)

    def noted_create(self: Objects, key: str, data: bytes) -> None:
        order.append(key.rpartition("/")[2])
        create(self, key, data)

    monkeypatch.setattr(Objects, "upload", noted_upload)
    monkeypatch.setattr(Objects, "create", noted_create)
    bucket.put(digest, folder)
    assert order == [WEIGHTS_NAME, "report", CONFIG_NAME, "manifest.json"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (WEIGHTS_NAME, b"weighTs"), (WEIGHTS_NAME, b"weights and more"), (CONFIG_NAME, b"[]"),
        ("report", b"[]"), ("manifest.json", b"{"), ("manifest.json", b'{"files": {}}'),
    ],
)  # fmt: skip
def test_other_bytes_are_never_adopted(
    bucket: Bucket, objects: Objects, local: LocalBlobs, write: Write, name: str, data: bytes
) -> None:
    """Objects that lie are BlobCorrupt, are not adopted, and are replaced by the next put."""
    digest, folder = write(report="{}")
    bucket.put(digest, folder)
    objects.put(f"versions/{digest}/{name}", data)

    with pytest.raises(BlobCorrupt):
        bucket.fetch(digest, local)

    assert frozenset() == local.digests()
    assert not bucket.has(digest)
    assert bucket.put(digest, folder)
    assert bucket.has(digest)
    bucket.fetch(digest, local)


def test_a_manifest_cannot_name_a_file_elsewhere(
    bucket: Bucket, objects: Objects, local: LocalBlobs, write: Write, tmp_path: Path
) -> None:
    """A manifest that names a path is refused before anything is written."""
    digest, folder = write()
    bucket.put(digest, folder)
    key = f"versions/{digest}/manifest.json"
    manifest = json.loads(objects.get(key))
    manifest["files"]["../../stolen"] = {"nbytes": 0, "sha256": ""}
    objects.put(key, json.dumps(manifest).encode())
    with pytest.raises(BlobCorrupt):
        bucket.fetch(digest, local)


def test_racing_writers_agree(bucket: Bucket, local: LocalBlobs, write: Write) -> None:
    """Writers of one folder all succeed, and a reader gets it whole."""
    digest, folder = write(b"w" * 100_000)
    threads = [threading.Thread(target=bucket.put, args=(digest, folder)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bucket.fetch(digest, local)


def test_an_object_is_created_once(objects: Objects) -> None:
    """Of several that create an object one succeeds, and the others learn that it is there."""
    objects.create("a", b"1")
    with pytest.raises(AlreadyThere):
        objects.create("a", b"2")
    assert b"1" == objects.get("a")


def test_folders_have_sizes_and_ages(bucket: Bucket, objects: Objects, write: Write) -> None:
    """A listing has each digest with its bytes and the time of its commit."""
    digest, folder = write()
    bucket.put(digest, folder)
    objects.put("versions/notes.txt", b"")
    stored = bucket.folders()
    assert {digest} == stored.keys()
    assert stored[digest].nbytes == sum(item.nbytes for item in objects.list(f"versions/{digest}"))


def test_a_young_folder_is_not_removed(bucket: Bucket, write: Write) -> None:
    """`discard` removes a folder whose last put is old enough, and nothing of it remains."""
    digest, folder = write()
    assert not bucket.discard(digest, idle_seconds=0)
    bucket.put(digest, folder)
    assert not bucket.discard(digest, idle_seconds=3600)
    assert bucket.discard(digest, idle_seconds=0)
    assert {} == bucket.folders()


def test_a_folder_that_is_needed_again_stays(
    bucket: Bucket, local: LocalBlobs, write: Write
) -> None:
    """A row that appears while `discard` runs keeps the whole folder."""
    digest, folder = write()
    bucket.put(digest, folder)
    seen: list[bool] = []

    def unneeded() -> bool:
        seen.append(bucket.has(digest))
        return False

    assert not bucket.discard(digest, idle_seconds=0, unneeded=unneeded)
    assert [False] == seen
    bucket.fetch(digest, local)


def test_a_digest_must_be_one(bucket: Bucket, local: LocalBlobs) -> None:
    """A malformed digest is refused before the store is asked."""
    for call in (bucket.has, bucket.refresh, lambda digest: bucket.fetch(digest, local)):
        with pytest.raises(DigestInvalid):
            call("../x")
    assert not bucket.has(ABSENT)
