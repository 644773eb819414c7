"""Blobs in a bucket with local copies: uploaded before they are named, fetched when needed."""

import os
import threading
import time
from pathlib import Path

import pytest

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME, digest_folder
from registry.storage.blobs import BlobStore, LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.cached_blobs import IDLE_SECONDS, CachedBlobs
from registry.storage.errors import BlobMissing
from registry.storage.objects import Objects

ABSENT = "0" * 64


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """An empty bucket."""
    return Bucket(Objects(f"memory://{tmp_path}"), "versions")


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobs:
    """The local copies of the first machine."""
    return LocalBlobs(tmp_path / "first")


@pytest.fixture
def first(bucket: Bucket, local: LocalBlobs) -> CachedBlobs:
    """The store as the first machine sees it."""
    return CachedBlobs(local, bucket)


@pytest.fixture
def copies(tmp_path: Path) -> LocalBlobs:
    """The local copies of the second machine."""
    return LocalBlobs(tmp_path / "second")


@pytest.fixture
def second(bucket: Bucket, copies: LocalBlobs) -> CachedBlobs:
    """The store as the second machine sees it."""
    return CachedBlobs(copies, bucket)


def adopt(blobs: CachedBlobs, content: str = "x") -> str:
    """Store a folder with such weights."""
    with blobs.workspace() as folder:
        (folder / CONFIG_NAME).write_text("{}")
        (folder / WEIGHTS_NAME).write_text(content)
        return blobs.adopt(folder)


def age(local: LocalBlobs, digest: str, seconds: float) -> None:
    """Let a copy look unused for so long."""
    then = time.time() - seconds
    os.utime(local.path(digest), (then, then))


def test_it_is_a_blob_store(first: CachedBlobs) -> None:
    """`CachedBlobs` satisfies the protocol `BlobStore`."""
    store: BlobStore = first
    assert frozenset() == store.digests()


def test_what_one_machine_stores_another_one_reads(
    first: CachedBlobs, second: CachedBlobs, local: LocalBlobs
) -> None:
    """An adopted folder is in the bucket and at hand here; elsewhere `path` fetches it."""
    digest = adopt(first)
    assert local.has(digest)
    assert {digest} == second.digests()
    assert digest == digest_folder(second.path(digest))
    with pytest.raises(BlobMissing):
        second.path(ABSENT)


def test_readers_of_one_digest_share_a_download(
    first: CachedBlobs, second: CachedBlobs, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads that need a folder download it once."""
    digest, fetches, fetch = adopt(first), list[str](), Bucket.fetch

    def slow(self: Bucket, digest: str, into: LocalBlobs) -> Path:
        fetches.append(digest)
        time.sleep(0.05)
        return fetch(self, digest, into)

    monkeypatch.setattr(Bucket, "fetch", slow)
    threads = [threading.Thread(target=second.path, args=(digest,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [digest] == fetches
    assert {} == second._turns._locks


def test_a_damaged_copy_is_fetched_again(first: CachedBlobs, local: LocalBlobs) -> None:
    """`verify` replaces a copy whose bytes have changed."""
    digest = adopt(first)
    (local.path(digest) / WEIGHTS_NAME).write_text("other")
    first.verify(digest)
    local.verify(digest)


def test_what_a_collector_took_is_stored_again(first: CachedBlobs, bucket: Bucket) -> None:
    """`confirm` uploads a folder that was removed between its upload and its row."""
    digest = adopt(first)
    bucket.discard(digest, idle_seconds=0)
    first.confirm(digest)
    assert bucket.has(digest)


def test_the_least_recently_used_copies_go_first(first: CachedBlobs, local: LocalBlobs) -> None:
    """`shrink` removes idle copies until the rest fits, none that is in use, none from the
    bucket."""
    digests = [adopt(first, name * 100) for name in "abcd"]
    for place, digest in enumerate(digests):
        age(local, digest, 2 * IDLE_SECONDS - place)
    size = local.size(digests[0])
    assert size == first.shrink(3 * size, lambda: {digests[0]})
    assert local.digests() == {digests[0], *digests[2:]}
    assert set(digests) == first.digests()


def test_a_copy_that_was_just_used_stays(first: CachedBlobs, local: LocalBlobs) -> None:
    """A path that was returned within an hour stays, whatever the limit."""
    digest = adopt(first)
    age(local, digest, 2 * IDLE_SECONDS)
    first.path(digest)
    assert 0 == first.shrink(1, set)
    assert local.has(digest)


def test_deleting_removes_it_everywhere(first: CachedBlobs, local: LocalBlobs) -> None:
    """A deleted digest is neither in the bucket nor here."""
    digest = adopt(first)
    first.delete(digest)
    assert frozenset() == first.digests() | local.digests()
