"""A `BlobStore` in a bucket, with copies on this machine that are fetched when they are needed.

Processes may share the local folder. A copy is used by its path, so that `shrink` removes only
copies that were not asked for within an hour and that no unfinished job may still read.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from merge.peft_format import digest_folder
from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.errors import BlobCorrupt

IDLE_SECONDS = 3600.0


class CachedBlobs:
    """See `BlobStore`. Every method that reaches the bucket may raise StoreUnavailable."""

    def __init__(self, local: LocalBlobs, bucket: Bucket) -> None:
        self._local, self._bucket = local, bucket
        self._turns = _Turns()

    def workspace(self) -> AbstractContextManager[Path]:
        """See `BlobStore`."""
        return self._local.workspace()

    def adopt(self, folder: Path) -> str:
        """Upload a folder, then move it into the local copies; see `BlobStore`."""
        digest = digest_folder(folder)
        self._bucket.put(digest, folder)
        return self._local.adopt(folder, digest)

    def confirm(self, digest: str) -> None:
        """See `BlobStore`."""
        if not self._bucket.has(digest):
            self._bucket.put(digest, self.path(digest))

    def has(self, digest: str) -> bool:
        """See `BlobStore`."""
        return self._local.has(digest) or self._bucket.has(digest)

    def path(self, digest: str) -> Path:
        """Return the local copy of `digest`, which stays for an hour; see `BlobStore`.

        Raises:
            BlobCorrupt: the bucket has other bytes.
            OSError: the disk is full or gone.
        """
        self._obtain(digest)
        return self._local.path(digest)

    def verify(self, digest: str) -> None:
        """Check the local copy of `digest`; a damaged one is fetched again. See `BlobStore`."""
        if self._obtain(digest):
            return  # a fetch verifies
        try:
            self._local.verify(digest)
        except BlobCorrupt:
            self._local.delete(digest)
            self._obtain(digest)

    def _obtain(self, digest: str) -> bool:
        """Fetch `digest` unless there is a copy; return whether it was fetched just now."""
        if self._local.touch(digest):
            return False
        with self._turns.take(digest):
            if self._local.touch(digest):  # by the thread that was before this one
                return False
            self._bucket.fetch(digest, self._local)
            return True

    def delete(self, digest: str) -> None:
        """Remove `digest` from the bucket and from this machine; see `BlobStore`."""
        self._bucket.discard(digest, idle_seconds=0)
        self._local.delete(digest)

    def digests(self) -> frozenset[str]:
        """See `BlobStore`."""
        return frozenset(self._bucket.folders())

    def sweep(self, *, older_than_seconds: float) -> int:
        """Remove the workspaces of crashed processes and return their number."""
        return self._local.sweep(older_than_seconds=older_than_seconds)

    def shrink(self, budget_bytes: int, in_use: Callable[[], Collection[str]]) -> int:
        """Remove copies, the least recently used first, until they fit; return the bytes freed.

        Args:
            budget_bytes: size limit of the copies.
            in_use: asked once if the limit is exceeded: digests that stay.

        Raises:
            OSError: the disk is gone.
        """
        copies = self._local.folders()
        excess = sum(copy.nbytes for copy in copies.values()) - budget_bytes
        if excess <= 0:
            return 0
        kept, freed = frozenset(in_use()), 0
        for copy in sorted(copies.values(), key=lambda copy: (copy.modified, copy.digest)):
            if freed >= excess:
                break
            if copy.digest not in kept and self._local.discard(
                copy.digest, idle_seconds=IDLE_SECONDS
            ):
                freed += copy.nbytes
        return freed


class _Turns:
    """One thread at a time for each digest."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def take(self, digest: str) -> Iterator[None]:
        """Wait for the turn of this thread; the lock goes with its last user."""
        with self._guard:
            lock, users = self._locks.get(digest, (threading.Lock(), 0))
            self._locks[digest] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, users = self._locks.pop(digest)
                if users > 1:
                    self._locks[digest] = lock, users - 1
