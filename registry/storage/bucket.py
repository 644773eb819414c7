"""Adapter folders in an object store, addressed by the digest of their config and weights.

    <digest>/adapter_model.safetensors, adapter_config.json, …    the folder's files
    <digest>/manifest.json                                        sizes and SHA-256 of the files
    <digest>/damaged                                              a reader got other bytes

Weights are written first, then the other files, then the manifest: a digest without a manifest is
not there. A reader downloads a folder, compares it with its digest and moves it into a local store.
Every method blocks. Not covered: references to digests (`registry.upkeep.garbage`), and the local
copies (`cached_blobs`).
"""

import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME, digest_folder, is_digest
from registry.references import check_digest
from registry.storage.blobs import LocalBlobs, StoredFolder
from registry.storage.errors import BlobCorrupt, BlobMissing
from registry.storage.objects import AlreadyThere, Objects

MANIFEST_NAME, DAMAGED_NAME = "manifest.json", "damaged"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_VERSION = 1


class Bucket:
    """The folders below one prefix of an object store. Threads and gateways may share it.

    Raises:
        StoreUnavailable: by every method, if the store cannot be used.
        DigestInvalid: by every method, if a digest is malformed.
    """

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects, self._prefix = objects, prefix

    def put(self, digest: str, folder: Path) -> bool:
        """Store the folder of `digest`; return whether it was uploaded.

        A folder that is stored is not uploaded again, but counts as new for `discard`.

        Args:
            digest: of the folder, as `digest_folder` returns it.
            folder: its files, which must not change meanwhile.

        Raises:
            OSError: the folder cannot be read.
        """
        files = sorted(folder.iterdir(), key=lambda file: _order(file.name))
        sizes = {file.name: file.stat().st_size for file in files}
        objects = self._sizes_of(digest)
        manifest_bytes = objects.pop(MANIFEST_NAME, None)
        if manifest_bytes is not None and objects == sizes:
            self.refresh(digest)
            return False
        manifest = _manifest(files)
        for file in files:
            self._objects.upload(file, self._key(digest, file.name))
        try:
            self._objects.create(self._key(digest, MANIFEST_NAME), manifest)
        except AlreadyThere:  # of a damaged folder, or of another writer of the same files
            self._objects.put(self._key(digest, MANIFEST_NAME), manifest)
        self._objects.delete(self._key(digest, DAMAGED_NAME))
        return True

    def has(self, digest: str) -> bool:
        """Return whether `digest` is stored and no reader got other bytes."""
        objects = self._sizes_of(digest)
        needed = {MANIFEST_NAME, CONFIG_NAME, WEIGHTS_NAME}
        return needed <= objects.keys() and DAMAGED_NAME not in objects

    def fetch(self, digest: str, into: LocalBlobs) -> Path:
        """Download the folder of `digest` into a local store, and return it there.

        Raises:
            BlobMissing: `digest` is not stored, or is being deleted.
            BlobCorrupt: the bytes are not those of `digest`. The local store is unchanged, and the
                next `put` of the digest uploads the files again.
            OSError: the disk is full or gone.
        """
        try:
            files = self._files_of(digest)
            with into.workspace() as workspace:
                folder = workspace / "fetched"
                folder.mkdir()
                for name, described in files.items():
                    self._objects.download(self._key(digest, name), described.nbytes, folder / name)
                _check(folder, digest, files)
                into.adopt(folder, digest)
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        except BlobCorrupt as error:
            self._objects.put(self._key(digest, DAMAGED_NAME), error.found.encode())
            raise
        return into.path(digest)

    def _files_of(self, digest: str) -> "Mapping[str, _File]":
        """Return the files of a digest by name, after a check of the objects' sizes.

        Raises:
            FileNotFoundError: the manifest or a file is missing.
            BlobCorrupt: the manifest is malformed, or a file has another size.
        """
        files = _parsed(digest, self._objects.get(self._key(digest, MANIFEST_NAME)))
        sizes = self._sizes_of(digest)
        for name, described in files.items():
            if name not in sizes:
                raise FileNotFoundError(self._key(digest, name))
            if sizes[name] != described.nbytes:
                raise BlobCorrupt(digest, f"unknown, as {name} has {sizes[name]} bytes")
        return files

    def refresh(self, digest: str) -> None:
        """Let `digest` count as new for `discard`. Does nothing if it is not stored."""
        key = self._key(digest, MANIFEST_NAME)
        try:
            self._objects.put(key, self._objects.get(key))
        except FileNotFoundError:
            return

    def folders(self) -> dict[str, StoredFolder]:
        """Return every digest below the prefix, those of stopped uploads included.

        A folder is as old as its manifest; without one, as its newest object.
        """
        sizes: defaultdict[str, int] = defaultdict(int)
        newest: defaultdict[str, float] = defaultdict(float)
        committed: dict[str, float] = {}
        for item in self._objects.list(self._prefix):
            digest, _, name = item.key.removeprefix(f"{self._prefix}/").partition("/")
            if not is_digest(digest):
                continue
            sizes[digest] += item.nbytes
            newest[digest] = max(newest[digest], item.modified)
            if name == MANIFEST_NAME:
                committed[digest] = item.modified
        return {
            digest: StoredFolder(digest, nbytes, committed.get(digest, newest[digest]))
            for digest, nbytes in sizes.items()
        }

    def discard(
        self, digest: str, *, idle_seconds: float, unneeded: Callable[[], bool] = lambda: True
    ) -> bool:
        """Remove `digest` if it is older than `idle_seconds` and unneeded; return whether it was.

        The manifest goes first, so that a reader sees the whole folder or none. Then `unneeded` is
        asked: a gateway that has meanwhile recorded the digest keeps it.

        Args:
            digest: what to remove.
            idle_seconds: since it was stored or refreshed.
            unneeded: whether no row refers to the digest.
        """
        objects = list(self._objects.list(f"{self._prefix}/{digest}"))
        ages = {item.key.rpartition("/")[2]: time.time() - item.modified for item in objects}
        age = ages.get(MANIFEST_NAME, min(ages.values(), default=0.0))
        if not objects or age < idle_seconds:
            return False
        key = self._key(digest, MANIFEST_NAME)
        try:
            manifest = self._objects.get(key)
        except FileNotFoundError:
            manifest = None
        self._objects.delete(key)
        if not unneeded():
            if manifest is not None:
                self._objects.put(key, manifest)
            return False
        self._objects.delete(*(item.key for item in objects if item.key != key))
        return True

    def sweep(self, *, older_than_seconds: float) -> int:
        """Return 0: what a stopped upload left is in `folders`, and a bucket has no workspaces."""
        del older_than_seconds
        return 0

    def _sizes_of(self, digest: str) -> dict[str, int]:
        """Return the sizes of the objects of a digest by name."""
        prefix = self._key(digest, "")
        return {
            item.key.removeprefix(prefix): item.nbytes
            for item in self._objects.list(prefix.rstrip("/"))
        }

    def _key(self, digest: str, name: str) -> str:
        check_digest(digest)
        return f"{self._prefix}/{digest}/{name}"


@dataclass(frozen=True, slots=True)
class _File:
    """A file as the manifest describes it."""

    nbytes: int
    sha256: str


def _order(name: str) -> tuple[int, str]:
    """Sort the weights first, as their upload is the longest, and the config last."""
    return {WEIGHTS_NAME: 0, CONFIG_NAME: 2}.get(name, 1), name


def _manifest(files: list[Path]) -> bytes:
    described = {file.name: asdict(_describe(file)) for file in files}
    return json.dumps({"version": _VERSION, "files": described}, indent=1).encode()


def _describe(file: Path) -> _File:
    with file.open("rb") as stream:
        return _File(file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _parsed(digest: str, manifest: bytes) -> dict[str, _File]:
    """Return the files of a manifest by name.

    Raises:
        BlobCorrupt: it is malformed, or names something that is not a plain file.
    """
    try:
        described = json.loads(manifest)["files"].items()
        files = {name: _File(int(d["nbytes"]), str(d["sha256"])) for name, d in described}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BlobCorrupt(digest, "unknown, as the manifest cannot be read") from error
    if not {CONFIG_NAME, WEIGHTS_NAME} <= files.keys():
        raise BlobCorrupt(digest, "unknown, as the manifest lacks a file")
    if not all(_FILE_NAME.fullmatch(name) for name in files):
        raise BlobCorrupt(digest, "unknown, as the manifest names something else than files")
    return files


def _check(folder: Path, digest: str, files: Mapping[str, _File]) -> None:
    """Raise BlobCorrupt unless a folder has its digest, and its other files their SHA-256."""
    actual = digest_folder(folder)
    if actual != digest:
        raise BlobCorrupt(digest, actual)
    for name in files.keys() - {CONFIG_NAME, WEIGHTS_NAME}:
        if _describe(folder / name) != files[name]:
            raise BlobCorrupt(digest, f"{digest}, and {name} is not as it was stored")
