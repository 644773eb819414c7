"""The folders below `home`/jobs: uploaded files, and what each job writes while it runs.

    files/<file id>   as uploaded               <job id>/    checkpoints, candidates, outcome.json
    scores/           of pool members          incoming/    uploads under way

With an object store these are copies, which other gateways' jobs and uploads are fetched into
(`shared`).
Not covered: who owns a file or a job (`registry.jobs.files`, `registry.jobs.queue`), and what the
files contain.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from merge.peft_format.atomic_files import make_folders, sync
from registry.callers import Caller
from registry.jobs.files import Files
from registry.jobs.types import File
from server.jobs.shared import SharedFiles

_ID = re.compile(r"(?:file|ftjob)-[0-9a-f]{24}")
PURPOSE = "fine-tune"  # OpenAI's name for examples to learn from


def new_id(kind: Literal["file", "ftjob"]) -> str:
    """Return a new random id."""
    return f"{kind}-{secrets.token_hex(12)}"


class Incoming:
    """A file during its upload: written in pieces, counted and hashed."""

    def __init__(self, path: Path) -> None:
        created = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(created, "wb")
        self._hash = hashlib.sha256()
        self.path = path
        self.nbytes = 0

    def write(self, data: bytes) -> None:
        """Add bytes. Raises OSError: the disk is full or gone."""
        self._file.write(data)
        self._hash.update(data)
        self.nbytes += len(data)

    def close(self) -> str:
        """Sync the file and return its SHA-256. Raises OSError: as `write`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Remove the bytes, unless the file was kept."""
        with suppress(OSError):  # unwritten bytes are not needed
            self._file.close()
        self.path.unlink(missing_ok=True)


class JobStorage:
    """The folder of files and jobs. Folders are made when they are first written to."""

    def __init__(self, root: Path, shared: SharedFiles | None = None) -> None:
        self._root, self._shared = root, shared

    def incoming(self) -> Incoming:
        """Return a new file for an upload. Raises OSError: the disk is full or gone."""
        folder = self._root / "incoming"
        make_folders(folder)
        return Incoming(folder / secrets.token_hex(16))

    def keep(self, incoming: Incoming, file_id: str, digest: str) -> None:
        """Move a closed upload with this SHA-256 to its id.

        Raises:
            OSError: as `incoming`.
            registry.errors.StoreUnavailable: the object store does not take it; it is not kept.
        """
        if self._shared is not None:
            self._shared.put_file(file_id, incoming.path, digest)
        path = self._path(file_id)
        make_folders(path.parent)
        incoming.path.rename(path)
        sync(path.parent)

    def file(self, file_id: str) -> Path:
        """Return the path of a file, which is fetched from the object store if it is only there.

        Raises:
            registry.errors.StoreUnavailable: the object store cannot be asked.
            StoreBroken: its bytes have changed there.
            OSError: the disk is full or gone.
        """
        path = self._path(file_id)
        if self._shared is not None and not path.exists():
            self._shared.fetch_file(file_id, path)
        return path

    def _path(self, file_id: str) -> Path:
        return self._root / "files" / _checked(file_id)

    def drop_removed_copies(self, files: Files) -> None:
        """Remove the copies here of uploads that were removed through other gateways.

        Raises:
            OSError: the disk refuses.
            registry.errors.DatabaseUnavailable: the database cannot be asked.
        """
        if self._shared is not None:
            here = [path.name for path in (self._root / "files").glob("file-*")]
            for file_id in files.removed(here):
                self._path(file_id).unlink(missing_ok=True)

    def remove_file(self, file_id: str) -> None:
        """Remove a file's bytes, if they exist.

        Raises:
            OSError: the disk refuses.
            registry.errors.StoreUnavailable: the object store still has them.
        """
        self._path(file_id).unlink(missing_ok=True)
        if self._shared is not None:
            self._shared.remove_file(file_id)

    def files(self) -> frozenset[str]:
        """Return the ids of the uploads that are here or in the object store.

        Raises:
            OSError: the disk is gone.
            registry.errors.StoreUnavailable: the object store cannot be asked.
        """
        here = frozenset(path.name for path in (self._root / "files").glob("file-*"))
        return here if self._shared is None else here | self._shared.files()

    def folder(self, job: str) -> Path:
        """Return the folder of a job. No other job may use it."""
        return self._root / _checked(job)

    def obtain(self, job: str) -> Path:
        """Return the folder of a job as it was saved last, by whichever gateway.

        Raises:
            as `file`.
        """
        folder = self.folder(job)
        if self._shared is not None:
            self._shared.restore(job, folder)
        return folder

    def claim(self, job: str) -> None:
        """Bring a claimed job's folder, and the scores that other gateways know.

        Raises:
            as `file`.
        """
        if self._shared is not None:
            self._shared.claim(job, self.folder(job))
            self._shared.exchange_scores(self.scores)

    def save(self, job: str, *, learned: bool = False) -> None:
        """Let other gateways have what a claimed job has written, and its scores once it learned.

        Raises:
            registry.errors.StoreUnavailable: the object store does not take it.
            OSError: the disk is gone.
        """
        if self._shared is not None:
            self._shared.save(job, self.folder(job))
            if learned:
                self._shared.exchange_scores(self.scores)

    def uploads(self) -> list[Callable[[], object]]:
        """Return the calls that put each upload and each job's folder into the object store."""
        shared = self._shared
        assert shared is not None, "only with an object store"
        files = [file for file in (self._root / "files").glob("file-*") if _ID.fullmatch(file.name)]
        jobs = [folder for folder in self._root.glob("ftjob-*") if _ID.fullmatch(folder.name)]
        return [
            *(partial(shared.put_file, file.name, file) for file in files),
            *(partial(shared.put_job, folder.name, folder) for folder in jobs),
            partial(shared.exchange_scores, self.scores),
        ]

    @property
    def shared(self) -> bool:
        """Whether other gateways can have what a job writes."""
        return self._shared is not None

    @property
    def scores(self) -> Path:
        """The folder with the scores of pool members, which all jobs share."""
        return self._root / "scores"

    def outcome(self, job: str) -> dict[str, Any] | None:
        """Return the outcome of a job's learning, or None while it has none.

        Raises:
            OSError: it cannot be read.
        """
        from merge.adaptive.candidates import OUTCOME

        path = self.folder(job) / OUTCOME
        if not path.exists():
            return None
        outcome: dict[str, Any] = json.loads(path.read_text())
        return outcome

    def sweep(self, *, older_than_seconds: float) -> None:
        """Remove uploads that a crash left."""
        limit = time.time() - older_than_seconds
        for path in (self._root / "incoming").glob("*"):
            if path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)

    def remove_checkpoints(self, job: str) -> None:
        """Remove what only a resumed job needs. Candidates stay: they can still be published.

        Raises:
            registry.errors.StoreUnavailable: the object store still has it.
        """
        for name in ("checkpoints", "folded"):
            shutil.rmtree(self.folder(job) / name, ignore_errors=True)
        if self._shared is not None:
            self._shared.save(job, self.folder(job))
            self._shared.end(job)

    def jobs(self) -> frozenset[str]:
        """Return the ids of the jobs that have a folder, here or in the object store.

        Raises:
            OSError: the disk is gone.
            registry.errors.StoreUnavailable: the object store cannot be asked.
        """
        here = frozenset(path.name for path in self._root.glob("ftjob-*"))
        return here if self._shared is None else here | self._shared.jobs()

    def remove_job(self, job: str) -> None:
        """Remove a job's folder, if it exists, from this machine and from the object store.

        Raises:
            registry.errors.StoreUnavailable: the object store still has it.
        """
        shutil.rmtree(self.folder(job), ignore_errors=True)
        if self._shared is not None:
            self._shared.remove_job(job)


def _checked(name: str) -> str:
    if not _ID.fullmatch(name):
        raise ValueError(f"not an id of a file or a job: {name!r:.80}")
    return name


def keep_file(
    files: Files, storage: JobStorage, incoming: Incoming, filename: str, caller: Caller
) -> File:
    """Store an upload as a file of the caller's: on disk first, then in the registry.

    Raises:
        registry.errors.RegistryError: the registry refuses it; its bytes are removed.
        registry.errors.StoreUnavailable: the object store does not take it.
        OSError: the disk is full or gone.
    """
    digest = incoming.close()
    file_id = new_id("file")
    storage.keep(incoming, file_id, digest)
    try:
        return files.add(
            id=file_id, filename=filename, purpose=PURPOSE, bytes=incoming.nbytes, digest=digest,
            actor=caller.name, caller=caller,
        )  # fmt: skip
    except Exception:
        storage.remove_file(file_id)
        raise
