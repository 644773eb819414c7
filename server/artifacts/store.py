"""The folder that engines load from: artifacts and staged versions, each under its digest.

Unlike the registry's blobs it is a cache: every entry can be built, staged or fetched again, so the
least recently used ones are removed when the store exceeds its budget. Artifacts of several
machines meet in a bucket, if there is one.
"""

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.storage.blobs import BlobStore, LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.errors import BlobCorrupt, BlobMissing
from server.hard_links import link_or_copy

_log = logging.getLogger("weft.artifacts")
# How old the bucket's time of an artifact's last use may be while it is used here.
_REFRESH_SECONDS = 6 * 3600.0
_REFRESHES_AT_ONCE = 20


class StoreFull(Exception):
    """The disk is full."""


class StoreBroken(Exception):
    """The disk cannot be written or read."""

    retry_after_seconds = 5


@contextmanager
def storage_errors(what: str = "the merged adapter") -> Iterator[None]:
    """Turn an OSError while `what` is written into StoreFull or StoreBroken."""
    try:
        yield
    except OSError as error:
        # EFBIG: a limit on file sizes, which means to a client what a full disk means.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(f"no room on disk for {what}; nothing of it was kept") from error
        raise StoreBroken(f"the disk for {what} cannot be used: {error}") from error


class ArtifactStore(LocalBlobs):
    """Content-addressed folders with an age. Entries may be deleted at any time by anyone."""

    def __init__(self, root: Path, bucket: Bucket | None = None) -> None:
        super().__init__(root)
        self._bucket = bucket
        self._refreshed: dict[str, float] = {}  # artifact -> when the bucket heard of its use

    def share(self, digest: str) -> None:
        """Put an artifact into the bucket, if there is one.

        Raises:
            registry.errors.StoreUnavailable: it is not there.
            OSError: the disk is gone.
        """
        if self._bucket is not None:
            self._bucket.put(digest, self.path(digest))
            self._refreshed[digest] = time.time()

    def share_again(self, digest: str) -> bool:
        """Put an artifact into the bucket if the bucket has lost it; return whether it had.

        Raises:
            registry.errors.StoreUnavailable: the bucket cannot be asked, or does not take it.
            BlobMissing: it is not here, either.
        """
        if self._bucket is None or self._bucket.has(digest):
            return False
        self.share(digest)
        return True

    def remove(self, digest: str) -> None:
        """Remove an artifact from this disk and from the bucket.

        Raises:
            registry.errors.StoreUnavailable: it stays in the bucket.
        """
        self.delete(digest)
        if self._bucket is not None:
            self._bucket.discard(digest, idle_seconds=0)

    def fetch(self, digest: str) -> bool:
        """Bring an artifact from the bucket unless it is here; return whether it is here.

        Raises:
            registry.errors.StoreUnavailable: the bucket cannot be asked.
            OSError: the disk is full or gone.
        """
        if self.has(digest):
            return True
        if self._bucket is None:
            return False
        try:
            self._bucket.fetch(digest, self)
        except BlobMissing:
            return False
        except BlobCorrupt as error:
            _log.error("a merged adapter in the store is damaged and is made again: %s", error)
            return False
        return True

    def refresh_used(self) -> None:
        """Tell the bucket which artifacts were used here, a few times a day for each.

        Raises:
            registry.errors.StoreUnavailable: it is told next time.
        """
        if self._bucket is None:
            return
        used, now = {digest: self.used_at(digest) for digest in self.digests()}, time.time()
        self._refreshed = {digest: self._refreshed.get(digest, 0.0) for digest in used}
        due = [
            digest for digest, told_at in self._refreshed.items()
            if told_at < min(used[digest], now - _REFRESH_SECONDS)
        ]  # fmt: skip
        for digest in due[:_REFRESHES_AT_ONCE]:
            self._bucket.refresh(digest)
            self._refreshed[digest] = now

    def stage(self, digest: str, versions: BlobStore) -> None:
        """Make a registered version loadable: link its files (or copy, across file systems).

        Raises:
            registry.errors.BlobMissing, BlobCorrupt: the version's files are gone or changed.
            OSError: the disk is full or gone.
        """
        versions.verify(digest)
        with self.workspace() as workspace:
            folder = workspace / "staged"
            folder.mkdir()
            for file in versions.path(digest).iterdir():
                link_or_copy(file, folder / file.name)
            self.adopt(folder, digest)  # the files are those that were verified

    def oldest_first(self) -> list[str]:
        """Return the digests in the store, the least recently used first."""
        used = {digest: self.used_at(digest) for digest in self.digests()}
        return sorted(used, key=lambda digest: (used[digest], digest))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every artifact by digest."""
        return {digest: self.size(digest) for digest in self.digests()}

    def nbytes(self) -> int:
        """Return the bytes of all artifacts."""
        return sum(self.sizes().values())
