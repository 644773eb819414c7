"""The blob store: adapter folders addressed by the digest of their config and weights.

`LocalBlobs` is a folder; `cached_blobs` keeps the folders in an object store. A store does not
track references: callers check that a folder is unreferenced before they delete it.
"""

import contextlib
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from merge.peft_format import digest_folder, is_digest
from merge.peft_format.atomic_files import make_folders, rename_folder, sync
from registry.references import check_digest
from registry.storage.errors import BlobCorrupt, BlobMissing

_WORKSPACES = ".workspaces"


@dataclass(frozen=True, slots=True)
class StoredFolder:
    """One folder of a store.

    Attributes:
        digest: the folder's name.
        nbytes: the size of its files.
        modified: when it was stored or last used, in Unix time by the store's clock.
    """

    digest: str
    nbytes: int
    modified: float


class BlobStore(Protocol):
    """A store of immutable adapter folders by digest."""

    def workspace(self) -> AbstractContextManager[Path]:
        """Yield an empty folder on the store's disk, and remove it on exit.

        Raises:
            OSError: the store is not writable.
        """

    def adopt(self, folder: Path) -> str:
        """Move a finished folder of a workspace into the store and return its digest.

        The move is atomic and durable. If the store has the digest already, `folder` is left in its
        workspace.

        Raises:
            OSError: the disk is full or unavailable; the store is unchanged.
        """

    def confirm(self, digest: str) -> None:
        """Store an adopted digest again if a collector removed it meanwhile.

        Call it once a row refers to the digest: from then on no collector removes it.
        """

    def has(self, digest: str) -> bool:
        """Return whether the store has `digest`.

        Raises:
            DigestInvalid: the digest is malformed.
        """

    def path(self, digest: str) -> Path:
        """Return the folder of `digest`, which must not be changed.

        Raises:
            DigestInvalid: the digest is malformed.
            BlobMissing: the store does not have the digest.
        """

    def verify(self, digest: str) -> None:
        """Compute the digest of a folder again and compare it with `digest`.

        Raises:
            DigestInvalid, BlobMissing: see `path`.
            BlobCorrupt: files have changed or are missing.
        """

    def delete(self, digest: str) -> None:
        """Remove the folder of `digest` if it exists.

        Raises:
            DigestInvalid: the digest is malformed.
        """

    def digests(self) -> frozenset[str]:
        """Return all digests in the store."""


class LocalBlobs:
    """A `BlobStore` in a local folder, `<root>/<digest>/…`. Processes may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._workspaces = root / _WORKSPACES

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield an empty folder; see `BlobStore.workspace`."""
        make_folders(self._root)
        folder = self._workspaces / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, folder: Path, digest: str | None = None) -> str:
        """Move a finished folder into the store; see `BlobStore.adopt`.

        `folder` must be on the store's file system, like a workspace. `digest` is its own, where
        the caller has just computed it: hashing takes half a second a gigabyte.
        """
        digest = digest or digest_folder(folder)
        for path in folder.iterdir():
            sync(path)
        os.utime(folder)  # the idle time starts now
        sync(folder)
        while not self._settle(folder, digest):
            pass  # another process has just discarded the existing folder
        sync(self._root)
        return digest

    def _settle(self, folder: Path, digest: str) -> bool:
        """Rename `folder` to its digest, or touch the existing folder of this digest."""
        return rename_folder(folder, self._root / digest) or self.touch(digest)

    def confirm(self, digest: str) -> None:
        """Do nothing: `adopt` touches a folder, and `discard` looks at that after its move."""

    def has(self, digest: str) -> bool:
        """Return whether the store has `digest`; see `BlobStore.has`."""
        return self._folder(digest).is_dir()

    def path(self, digest: str) -> Path:
        """Return the folder of `digest`; see `BlobStore.path`."""
        if not self.has(digest):
            raise BlobMissing(digest)
        return self._root / digest

    def verify(self, digest: str) -> None:
        """Compare the folder of `digest` with its name; see `BlobStore.verify`."""
        try:
            actual = digest_folder(self.path(digest))
        except OSError as error:
            raise BlobCorrupt(digest, str(error.strerror)) from error
        if actual != digest:
            raise BlobCorrupt(digest, actual)

    def delete(self, digest: str) -> None:
        """Remove the folder of `digest`; see `BlobStore.delete`."""
        if not self.has(digest):
            return
        # The rename comes first, so that a reader does not see an incomplete folder. Another
        # process may have removed the folder.
        with self.workspace() as doomed, contextlib.suppress(FileNotFoundError):
            (self._root / digest).rename(doomed / digest)

    def discard(
        self, digest: str, *, idle_seconds: float, unneeded: Callable[[], bool] = lambda: True
    ) -> bool:
        """Remove the folder of `digest` if it is idle and unneeded; return whether it was removed.

        A concurrent adoption or touch keeps the folder: it is moved aside, its idle time is read
        again, and it is moved back if it was used in the meantime. `unneeded` is asked then.

        Raises:
            DigestInvalid: the digest is malformed.
        """
        limit = time.time() - idle_seconds
        if not self.has(digest) or self.used_at(digest) > limit:
            return False
        with self.workspace() as doomed:
            aside = doomed / digest
            try:
                (self._root / digest).rename(aside)
            except FileNotFoundError:
                return False  # another process removed the folder
            if aside.stat().st_mtime <= limit and unneeded():
                return True
            self._settle(aside, digest)
            return False

    def touch(self, digest: str) -> bool:
        """Set the last use of `digest` to now; return whether the store has it.

        Raises:
            DigestInvalid: the digest is malformed.
        """
        try:
            os.utime(self._folder(digest))
        except FileNotFoundError:
            return False
        return True

    def used_at(self, digest: str) -> float:
        """Return the time of the last adoption or touch (Unix time), or 0 if it is missing.

        Raises:
            DigestInvalid: the digest is malformed.
        """
        try:
            return self._folder(digest).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def size(self, digest: str) -> int:
        """Return the total size of a folder's files in bytes, or 0 if it is missing.

        Raises:
            DigestInvalid: the digest is malformed.
        """
        try:
            return sum(file.stat().st_size for file in self._folder(digest).iterdir())
        except FileNotFoundError:
            return 0

    def _folder(self, digest: str) -> Path:
        """Return the path of a digest's folder, after a check that the digest is well formed."""
        check_digest(digest)
        return self._root / digest

    def folders(self) -> dict[str, StoredFolder]:
        """Return every folder in the store."""
        return {
            digest: StoredFolder(digest, self.size(digest), self.used_at(digest))
            for digest in self.digests()
        }

    def digests(self) -> frozenset[str]:
        """Return all digests in the store."""
        if not self._root.is_dir():
            return frozenset()
        return frozenset(path.name for path in self._root.iterdir() if _is_blob(path))

    def sweep(self, *, older_than_seconds: float) -> int:
        """Remove the workspaces of crashed processes and return their number.

        A workspace with a change within the last `older_than_seconds` may be in use and is kept: an
        upload or a download can take hours, but its files grow continuously.
        """
        if not self._workspaces.is_dir():
            return 0
        limit = time.time() - older_than_seconds
        old = [path for path in self._workspaces.iterdir() if _last_change(path) < limit]
        for path in old:
            shutil.rmtree(path, ignore_errors=True)
        return len(old)


def _is_blob(path: Path) -> bool:
    return is_digest(path.name) and path.is_dir()


def _last_change(folder: Path) -> float:
    """Return the time of the last change in a workspace (Unix time), or infinity if it changes."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return math.inf  # a file was removed just now, so the workspace is in use
