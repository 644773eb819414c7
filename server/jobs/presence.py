"""Which queued jobs this gateway can run: those whose files, and whose pool's files, it has.

Gateways of one database share a home or an object store, or each runs the jobs created on it. A job
whose files are elsewhere stays queued. Blocking: use it off the event loop, outside of any
transaction.
"""

import logging
import time
from collections.abc import Collection

from registry.jobs.queue import Jobs
from registry.jobs.types import Job
from registry.storage.blobs import BlobStore
from server.jobs.storage import JobStorage

_LOOK_AGAIN_SECONDS = 30.0
_log = logging.getLogger("weft.jobs")


class Presence:
    """Looks for the files of queued jobs, and remembers what it saw."""

    def __init__(self, jobs: Jobs, storage: JobStorage, versions: BlobStore) -> None:
        self._jobs, self._storage, self._versions = jobs, storage, versions
        self._complete: set[str] = set()
        self._look_again_at: dict[str, float] = {}

    def runnable(self, bases: Collection[str]) -> list[str]:
        """Return the ids of the queued jobs for these bases that this gateway has all files of."""
        queued = self._jobs.queued(bases)
        self._complete.intersection_update(queued)
        for job in set(self._look_again_at).difference(queued):
            del self._look_again_at[job]
        return [job for job in queued if job in self._complete or self._look(job)]

    def _look(self, job_id: str) -> bool:
        if time.monotonic() < self._look_again_at.get(job_id, 0.0):
            return False
        missing = self._missing(self._jobs.get(job_id))
        if missing is None:
            self._complete.add(job_id)
            return True
        if job_id not in self._look_again_at:
            _log.warning("%s stays queued: this gateway lacks %s", job_id, missing)
        self._look_again_at[job_id] = time.monotonic() + _LOOK_AGAIN_SECONDS
        return False

    def _missing(self, job: Job) -> str | None:
        files = [name for name in (job.training_file, job.validation_file) if name is not None]
        for name in files:
            if not self._storage.file(name).exists():
                return name
        for member in job.request.get("members") or ():
            if not self._versions.has(member["digest"]):
                return f"the files of {member['reference']}"
        return None
