"""Content-addressed folders: each lies under the digest of its own config and weights.

Covered: folders on a local file system. Not covered: object stores, and who may still need a
folder (the caller's to know before it deletes).
"""

import contextlib
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from merge.peft_format import digest_folder, is_digest
from merge.peft_format.atomic_files import rename_folder, sync
from registry.references import check_digest
from registry.storage.errors import BlobCorrupt, BlobMissing

_WORKSPACES = ".workspaces"


class BlobStore(Protocol):
    """Where immutable adapter folders are kept, by digest."""

    def workspace(self) -> AbstractContextManager[Path]:
        """Give an empty folder to build in; what is left of it at the end is removed.

        Raises:
            OSError: the store cannot be written.
        """

    def adopt(self, folder: Path) -> str:
        """Move a finished folder of a workspace into the store and return its digest.

        The digest exists in the store either wholly, on disk for certain, or not at all. When the
        store has it already, `folder` is left alone (and goes with its workspace).

        Raises:
            OSError: the disk is full or gone; the store has not changed.
        """

    def path(self, digest: str) -> Path:
        """Return the folder of `digest`, to be read only.

        Raises:
            DigestInvalid: malformed.
            BlobMissing: the store does not have it.
        """

    def verify(self, digest: str) -> None:
        """Read the folder of `digest` and hold it against its name.

        Raises:
            DigestInvalid, BlobMissing: as `path`.
            BlobCorrupt: the files have changed, or some are gone.
        """

    def delete(self, digest: str) -> None:
        """Remove the folder of `digest`; nothing happens when there is none.

        Raises:
            DigestInvalid: malformed.
        """

    def digests(self) -> frozenset[str]:
        """Return all digests that the store has."""


class LocalBlobs:
    """A `BlobStore` in a local folder, `<root>/<digest>/…`; processes may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._workspaces = root / _WORKSPACES

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give an empty folder to build in: see `BlobStore.workspace`."""
        folder = self._workspaces / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, folder: Path) -> str:
        """Move a finished folder into the store: see `BlobStore.adopt`.

        `folder` must be on the store's file system, as a workspace is.
        """
        digest = digest_folder(folder)
        for path in folder.iterdir():
            sync(path)
        os.utime(folder)  # its age counts from here
        sync(folder)
        while not self._settle(folder, digest):
            pass  # what was there first has just been discarded
        sync(self._root)
        return digest

    def _settle(self, folder: Path, digest: str) -> bool:
        """Give `folder` the name of its digest, or make what has the name young again."""
        return rename_folder(folder, self._root / digest) or self.touch(digest)

    def has(self, digest: str) -> bool:
        """Say whether the store has `digest`.

        Raises:
            DigestInvalid: malformed.
        """
        return self._folder(digest).is_dir()

    def path(self, digest: str) -> Path:
        """Return the folder of `digest`: see `BlobStore.path`."""
        if not self.has(digest):
            raise BlobMissing(digest)
        return self._root / digest

    def verify(self, digest: str) -> None:
        """Hold the folder of `digest` against its name: see `BlobStore.verify`."""
        try:
            found = digest_folder(self.path(digest))
        except OSError as error:
            raise BlobCorrupt(digest, str(error.strerror)) from error
        if found != digest:
            raise BlobCorrupt(digest, found)

    def delete(self, digest: str) -> None:
        """Remove the folder of `digest`: see `BlobStore.delete`."""
        if not self.has(digest):
            return
        # Renamed first, so that no reader meets half a folder under a digest; another process may
        # have removed it already.
        with self.workspace() as doomed, contextlib.suppress(FileNotFoundError):
            (self._root / digest).rename(doomed / digest)

    def discard(self, digest: str, *, idle_seconds: float) -> bool:
        """Remove the folder of `digest` if it was idle for so long; return whether it was removed.

        An adoption or a touch at the same moment keeps it: the folder is moved out of the way, its
        age is read again, and it is moved back if it is young now.

        Raises:
            DigestInvalid: malformed.
        """
        limit = time.time() - idle_seconds
        if not self.has(digest) or self.used_at(digest) > limit:
            return False
        with self.workspace() as doomed:
            aside = doomed / digest
            try:
                (self._root / digest).rename(aside)
            except FileNotFoundError:
                return False  # by another hand
            if aside.stat().st_mtime <= limit:
                return True
            self._settle(aside, digest)
            return False

    def touch(self, digest: str) -> bool:
        """Note that the folder of `digest` is in use now; say whether it is there at all.

        Raises:
            DigestInvalid: malformed.
        """
        try:
            os.utime(self._folder(digest))
        except FileNotFoundError:
            return False
        return True

    def used_at(self, digest: str) -> float:
        """Return when `digest` was last adopted or touched (seconds, Unix time); 0 when gone.

        Raises:
            DigestInvalid: malformed.
        """
        try:
            return self._folder(digest).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def size(self, digest: str) -> int:
        """Return the bytes of one folder's files; 0 when it is gone.

        Raises:
            DigestInvalid: malformed.
        """
        try:
            return sum(file.stat().st_size for file in self._folder(digest).iterdir())
        except FileNotFoundError:
            return 0

    def _folder(self, digest: str) -> Path:
        """Return where `digest` lies or would; no other text leads anywhere."""
        check_digest(digest)
        return self._root / digest

    def digests(self) -> frozenset[str]:
        """Return all digests that the store has."""
        if not self._root.is_dir():
            return frozenset()
        return frozenset(path.name for path in self._root.iterdir() if _is_blob(path))

    def sweep(self, *, older_than_seconds: float) -> int:
        """Remove what crashed processes left behind and return how many workspaces that was.

        A workspace in which anything changed within `older_than_seconds` may be in use and
        stays: uploads and downloads can take hours, but files grow all the while.
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
    """Return when anything in a workspace last changed (Unix time); infinity if it just went."""
    try:
        return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:
        return math.inf  # the workspace is in use
