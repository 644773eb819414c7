"""A job's log as its runner writes it: many entries at once, and none that stops a job."""

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
    """Writes one job's log. What the database does not take now waits for the next entries."""

    def __init__(self, jobs: Jobs, job: str) -> None:
        self._jobs, self._job = jobs, job
        self._waiting: list[Note] = []

    async def add(self, told: Iterable[Note]) -> None:
        """Write down what was told, after what still waits."""
        self._waiting += told
        if not self._waiting:
            return
        try:
            await asyncio.to_thread(self._jobs.note, self._job, self._waiting)
        except RegistryError as error:
            _log.warning("%s: its log cannot be written: %s", self._job, error)
        else:
            self._waiting = []

    async def say(self, message: str, level: Level = "info") -> None:
        """Write down one sentence."""
        await self.add([Note(message, level)])

    async def tell_bad_lines(self, failure: Failure) -> None:
        """Write down every bad line that a failure has, as data: a sentence holds but a few."""
        if failure.bad:
            lines = [bad._asdict() for bad in failure.bad[:_MOST_LINES]]
            data = {"param": failure.param, "lines": lines, "count": len(failure.bad)}
            await self.add([Note(f"{len(failure.bad)} bad lines", "error", data=data)])
