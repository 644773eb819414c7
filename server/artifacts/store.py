"""The folder that engines load from: artifacts and staged versions, each under its digest.

Unlike the registry's blobs it is a cache: every entry can be built or staged again, so the least
recently used ones are removed when the store exceeds its budget.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from registry.storage.blobs import BlobStore, LocalBlobs
from server.hard_links import link_or_copy


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
