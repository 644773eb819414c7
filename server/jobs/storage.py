"""The folders below `home`/jobs: uploaded files, and what each job writes while it runs.

    files/<file id>   as uploaded               <job id>/    checkpoints, candidates, outcome.json
    scores/           of pool members          incoming/    uploads under way

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
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from merge.peft_format.atomic_files import make_folders, sync
from registry.callers import Caller
from registry.jobs.files import Files
from registry.jobs.types import File

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

    def __init__(self, root: Path) -> None:
        self._root = root

    def incoming(self) -> Incoming:
        """Return a new file for an upload. Raises OSError: the disk is full or gone."""
        folder = self._root / "incoming"
        make_folders(folder)
        return Incoming(folder / secrets.token_hex(16))

    def keep(self, incoming: Incoming, file_id: str) -> None:
        """Move a closed upload to its id. Raises OSError: as `incoming`."""
        path = self.file(file_id)
        make_folders(path.parent)
        incoming.path.rename(path)
        sync(path.parent)

    def file(self, file_id: str) -> Path:
        """Return the path of a file."""
        return self._root / "files" / _checked(file_id)

    def remove_file(self, file_id: str) -> None:
        """Remove a file's bytes, if they exist. Raises OSError: the disk refuses."""
        self.file(file_id).unlink(missing_ok=True)

    def folder(self, job: str) -> Path:
        """Return the folder of a job. No other job may use it."""
        return self._root / _checked(job)

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
        """Remove what only a resumed job needs. Candidates stay: they can still be published."""
        for name in ("checkpoints", "folded"):
            shutil.rmtree(self.folder(job) / name, ignore_errors=True)

    def jobs(self) -> frozenset[str]:
        """Return the ids of the jobs that have a folder. Raises OSError: the disk is gone."""
        return frozenset(path.name for path in self._root.glob("ftjob-*"))

    def remove_job(self, job: str) -> None:
        """Remove a job's folder, if it exists."""
        shutil.rmtree(self.folder(job), ignore_errors=True)


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
        OSError: the disk is full or gone.
    """
    digest = incoming.close()
    file_id = new_id("file")
    storage.keep(incoming, file_id)
    try:
        return files.add(
            id=file_id, filename=filename, purpose=PURPOSE, bytes=incoming.nbytes, digest=digest,
            actor=caller.name, caller=caller,
        )  # fmt: skip
    except Exception:
        storage.remove_file(file_id)
        raise
