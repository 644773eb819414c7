"""The folder that engines load from: artifacts and staged versions, each under its digest.

Unlike the registry's blobs it is a cache: everything in it can be built or staged again, so the
least recently used entries go when it outgrows its budget.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from registry.blobs import BlobStore, LocalBlobs
from server.links import link_or_copy


class StoreFull(Exception):
    """The disk that holds artifacts is full."""


class StoreBroken(Exception):
    """The disk that holds artifacts cannot be written or read."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the disk says into StoreFull or StoreBroken."""
    try:
        yield
    except OSError as error:
        # EFBIG: a limit on file sizes; to whoever asked it is the same as no room.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull("no room for the merged adapter; nothing of it was kept") from error
        raise StoreBroken(f"the artifact store cannot be used: {error}") from error


class ArtifactStore(LocalBlobs):
    """Content-addressed folders with an age. Entries may vanish at any time, by any hand."""

    def stage(self, digest: str, versions: BlobStore) -> None:
        """Make a registered version loadable: link its files (or copy, across file systems).

        Raises:
            registry.errors.BlobMissing, BlobCorrupt: the version's own files are gone or changed.
            OSError: the disk is full or gone.
        """
        versions.verify(digest)
        with self.workspace() as workspace:
            folder = workspace / "staged"
            folder.mkdir()
            for file in versions.path(digest).iterdir():
                link_or_copy(file, folder / file.name)
            self.adopt(folder)

    def touch(self, digest: str) -> bool:
        """Note that the artifact is in use now; say whether it is there at all."""
        try:
            os.utime(self._root / digest)
        except FileNotFoundError:
            return False
        return True

    def oldest_first(self) -> list[str]:
        """Return every digest in the store, the least recently used first."""
        ages = {digest: self._age(digest) for digest in self.digests()}
        return sorted(ages, key=lambda digest: (ages[digest], digest))

    def nbytes(self) -> int:
        """Return the bytes of all artifacts."""
        return sum(self.size(digest) for digest in self.digests())

    def size(self, digest: str) -> int:
        """Return the bytes of one artifact's files; 0 when it is gone."""
        try:
            return sum(file.stat().st_size for file in (self._root / digest).iterdir())
        except FileNotFoundError:
            return 0

    def _age(self, digest: str) -> float:
        try:
            return (self._root / digest).stat().st_mtime
        except FileNotFoundError:
            return 0.0
