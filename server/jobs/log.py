"""A job's log as its runner writes it, in batches; `feed` is how clients follow it."""

import asyncio
import logging
from collections.abc import Iterable

from registry.errors import RegistryError
from registry.jobs.queue import Jobs
from registry.jobs.types import Note
from registry.types import Level
from server.jobs.failures import Failure

_MOST_LINES = 1000
_log = logging.getLogger("weft.jobs")


class JobLog:
    """Writes one job's log. Entries that the database refuses now are written with the next."""

    def __init__(self, jobs: Jobs, job: str) -> None:
        self._jobs, self._job = jobs, job
        self._waiting: list[Note] = []

    async def add(self, notes: Iterable[Note]) -> None:
        """Write notes, after those that still wait."""
        self._waiting += notes
        if not self._waiting:
            return
        try:
            await asyncio.to_thread(self._jobs.note, self._job, self._waiting)
        except RegistryError as error:
            _log.warning("cannot write the log of %s: %s", self._job, error)
        else:
            self._waiting = []

    async def say(self, message: str, level: Level = "info") -> None:
        """Write one sentence."""
        await self.add([Note(message, level)])

    async def add_bad_lines(self, failure: Failure) -> None:
        """Write every bad line of a failure as data; its message holds the first few."""
        if failure.bad:
            lines = [bad._asdict() for bad in failure.bad[:_MOST_LINES]]
            data = {"param": failure.param, "lines": lines, "count": len(failure.bad)}
            await self.add([Note(f"{len(failure.bad)} bad lines", "error", data=data)])
