"""Uploads, jobs' folders and scores in an object store, so that any gateway can go on with a job.

    files/<file id>/<sha256>                     an upload
    jobs/<job id>/<generation>-<claim>/<sha256>  a file of the job's folder
    jobs/<job id>/<generation>-<claim>/manifest.json   which files the folder has
    scores/<task>.jsonl                          of pool members, for all jobs

A worker that claims a job restores the newest generation and saves its own, so that one that lost
its job without noticing changes nothing. The manifest is written last: a folder is restored as it
was at one moment. Every method blocks, and raises StoreUnavailable if the store cannot be used. Not
covered: when to save (`runner`).
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from merge.peft_format import is_digest
from merge.peft_format.atomic_files import make_folders, write_atomic
from registry.storage.objects import Objects
from server.artifacts.store import StoreBroken

_MANIFEST, _MARKER = "manifest.json", ".generation"
_PREFIX = re.compile(r"([0-9]{6})-[0-9a-f]{8}")
# A folder that changes during each of so many saves is saved next time.
_ATTEMPTS = 3
_Stamp = tuple[int, int, int]


@dataclass(slots=True)
class _Claim:
    """One worker's saves of a job.

    Attributes:
        prefix: below which it saves.
        hashes: SHA-256 of files by their stamps.
        uploaded: SHA-256 of what is below the prefix.
        saved: size and SHA-256 of each file of the last save; None before it.
    """

    prefix: str
    hashes: dict[_Stamp, str] = field(default_factory=dict)
    uploaded: set[str] = field(default_factory=set)
    saved: Mapping[str, tuple[int, str]] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class SharedFiles:
    """The files of one object store. Threads may share it, one thread for each job."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._claims: dict[str, _Claim] = {}
        self._restoring = threading.Lock()

    # Uploads

    def put_file(self, file_id: str, file: Path, sha256: str | None = None) -> None:
        """Store an upload; its SHA-256 is computed unless it is known.

        Raises:
            OSError: it cannot be read.
        """
        self._objects.upload(file, f"files/{file_id}/{sha256 or _sha256(file)}")

    def fetch_file(self, file_id: str, file: Path) -> bool:
        """Write an upload to a path; return whether the store has it.

        Raises:
            StoreBroken: its bytes have changed.
            OSError: the disk is full or gone.
        """
        for item in self._objects.list(f"files/{file_id}"):
            self._fetch(item.key, item.nbytes, file)
            return True
        return False

    def remove_file(self, file_id: str) -> None:
        """Remove an upload, if it is there."""
        self._objects.delete(*(item.key for item in self._objects.list(f"files/{file_id}")))

    def files(self) -> frozenset[str]:
        """Return the ids of the uploads in the store."""
        return frozenset(item.key.split("/")[1] for item in self._objects.list("files"))

    # Folders of jobs

    def restore(self, job: str, folder: Path) -> None:
        """Make a job's folder what was saved last, unless it is what was saved last or newer.

        Raises:
            StoreBroken: a file's bytes have changed.
            OSError: the disk is full or gone.
        """
        with self._restoring:
            self._restore(job, folder)

    def _restore(self, job: str, folder: Path) -> None:
        newest, own = self._newest(job), _marker_of(folder)
        if newest is None or newest == own or _generation(newest) < _generation(own):
            return
        files = json.loads(self._objects.get(f"{_below(job)}{newest}/{_MANIFEST}"))
        restored = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        try:
            for name, (nbytes, sha256) in _checked(files).items():
                make_folders((restored / name).parent)
                self._fetch(f"{_below(job)}{newest}/{sha256}", nbytes, restored / name)
            make_folders(restored)
            write_atomic(restored / _MARKER, newest)
            shutil.rmtree(folder, ignore_errors=True)
            restored.rename(folder)
        finally:
            shutil.rmtree(restored, ignore_errors=True)

    def claim(self, job: str, folder: Path) -> None:
        """Restore a job's folder, and begin a generation of its saves.

        Raises:
            as `restore`.
        """
        with self._restoring:
            self._restore(job, folder)
            generation = max(_generation(self._newest(job)), _generation(_marker_of(folder))) + 1
            prefix = f"{generation:06d}-{secrets.token_hex(4)}"
            make_folders(folder)
            write_atomic(folder / _MARKER, prefix)
            self._claims[job] = _Claim(prefix)

    def save(self, job: str, folder: Path) -> bool:
        """Store what a job's folder holds; return whether it is claimed and was still long enough.

        Unchanged files are not uploaded again, and files that are gone are removed.

        Raises:
            OSError: a file cannot be read.
        """
        claim = self._claims.get(job)
        if claim is None:
            return False
        with claim.lock:
            return self._claims.get(job) is claim and self._saved(job, claim, folder)

    def _saved(self, job: str, claim: _Claim, folder: Path) -> bool:
        for _ in range(_ATTEMPTS):
            before = _stamps(folder)
            try:
                files = {name: self._stored(job, claim, folder / name, stamp)
                         for name, stamp in before.items()}  # fmt: skip
            except FileNotFoundError:
                continue
            if _stamps(folder) == before:
                self._commit(job, claim, files)
                return True
        return False

    def _stored(self, job: str, claim: _Claim, file: Path, stamp: _Stamp) -> tuple[int, str]:
        """Upload a file unless it is stored; return its size and SHA-256."""
        sha256 = claim.hashes.get(stamp) or _sha256(file)
        claim.hashes[stamp] = sha256
        if sha256 not in claim.uploaded:
            self._objects.upload(file, f"{_below(job)}{claim.prefix}/{sha256}")
            claim.uploaded.add(sha256)
        return stamp[1], sha256

    def _commit(self, job: str, claim: _Claim, files: Mapping[str, tuple[int, str]]) -> None:
        """Write the manifest, then remove what neither it nor a later claim names."""
        if files == claim.saved:
            return
        self._objects.put(f"{_below(job)}{claim.prefix}/{_MANIFEST}", json.dumps(files).encode())
        claim.saved = files
        claim.uploaded &= {sha256 for _, sha256 in files.values()}
        for item in list(self._objects.list(_below(job).rstrip("/"))):
            prefix, _, name = item.key.removeprefix(_below(job)).partition("/")
            own = prefix == claim.prefix
            if (own and name not in {_MANIFEST, *claim.uploaded}) or (
                not own and _generation(prefix) < _generation(claim.prefix)
            ):
                self._objects.delete(item.key)

    def put_job(self, job: str, folder: Path) -> None:
        """Store the folder of a job that does not run.

        Raises:
            as `claim` and `save`.
        """
        self.claim(job, folder)
        self.save(job, folder)
        self.end(job)

    def end(self, job: str) -> None:
        """Forget a claim; what was saved stays."""
        self._claims.pop(job, None)

    def remove_job(self, job: str) -> None:
        """Remove everything that was saved of a job; a save that runs is waited for."""
        claim = self._claims.pop(job, None)
        if claim is not None:
            with claim.lock:
                pass  # later saves look for the claim
        self._objects.delete(*(i.key for i in self._objects.list(_below(job).rstrip("/"))))

    def jobs(self) -> frozenset[str]:
        """Return the ids of the jobs of which something is saved."""
        return frozenset(item.key.split("/")[1] for item in self._objects.list("jobs"))

    def _newest(self, job: str) -> str | None:
        """Return the newest generation that was saved of a job."""
        keys = (item.key.removeprefix(_below(job))
                for item in self._objects.list(_below(job).rstrip("/")))  # fmt: skip
        saved = [key.partition("/")[0] for key in keys if key.endswith(f"/{_MANIFEST}")]
        return max(saved, default=None)

    # Scores

    def exchange_scores(self, folder: Path) -> None:
        """Give the store the scores that it lacks, and the folder those that it lacks.

        Scores save time only: of two gateways that do this at once, one may lose what it gave.

        Raises:
            OSError: the disk is full or gone.
        """
        theirs = {item.key.removeprefix("scores/") for item in self._objects.list("scores")}
        ours = {file.name for file in folder.glob("*.jsonl")}
        for name in sorted(theirs | ours):
            file, key = folder / name, f"scores/{name}"
            stored = _lines(self._objects.get(key)) if name in theirs else {}
            own = _lines(file.read_bytes()) if name in ours else {}
            if own.keys() - stored.keys():
                self._objects.put(key, b"\n".join([*stored, *(own.keys() - stored)]) + b"\n")
            if missing := stored.keys() - own.keys():
                make_folders(folder)
                with file.open("ab", buffering=0) as out:  # one write: jobs append meanwhile
                    out.write(b"\n" + b"\n".join(sorted(missing)) + b"\n")

    def _fetch(self, key: str, nbytes: int, file: Path) -> None:
        """Download an object that has its SHA-256 as a name."""
        partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
        make_folders(file.parent)
        try:
            self._objects.download(key, nbytes, partial)
            if _sha256(partial) != PurePosixPath(key).name:
                raise StoreBroken(f"the store has other bytes of {key} than were uploaded")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)


def _below(job: str) -> str:
    return f"jobs/{job}/"


def _generation(prefix: str | None) -> int:
    """Return the number in a prefix; 0 for none, or for something else."""
    match = _PREFIX.fullmatch(prefix or "")
    return int(match[1]) if match else 0


def _marker_of(folder: Path) -> str | None:
    """Return the generation that a folder holds, or None if it has none."""
    try:
        return (folder / _MARKER).read_text()
    except FileNotFoundError:
        return None


def _stamps(folder: Path) -> dict[str, _Stamp]:
    """Return inode, size and time of each file; hidden ones are unfinished or the marker."""
    stamps = {}
    for file in _files(folder):
        status = file.stat()
        stamp = status.st_ino, status.st_size, status.st_mtime_ns
        stamps[file.relative_to(folder).as_posix()] = stamp
    return stamps


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _checked(files: Mapping[str, tuple[int, str]]) -> Mapping[str, tuple[int, str]]:
    """Return the files of a manifest. Raises StoreBroken: one is outside of the folder."""
    for name, (_, sha256) in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not is_digest(sha256):
            raise StoreBroken(f"the store's manifest of a job names {name!r:.80}")
    return files


def _lines(data: bytes) -> dict[bytes, None]:
    return dict.fromkeys(line for line in data.splitlines() if line)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
