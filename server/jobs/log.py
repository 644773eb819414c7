"""A job's log: written by its runner in batches, and followed by clients."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable

from registry.callers import Caller
from registry.errors import RegistryError
from registry.jobs.queue import Jobs
from registry.jobs.types import JobEvent, Note
from registry.types import Level
from server.jobs.failures import Failure

_MOST_LINES = 1000
_PAGE = 200
_LOOK_SECONDS = 0.5
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


async def follow(
    jobs: Jobs, job_id: str, *, after: int | None = None, caller: Caller
) -> AsyncIterator[list[JobEvent]]:
    """Yield the new entries of a job's log until the job has ended.

    A list is empty when there was no entry for half a second.

    Raises:
        UnknownJob: the caller can see no such job.
        DatabaseUnavailable: the log cannot be read.
    """
    while True:
        # The status first: entries that precede the end are then in the page read after it.
        ended = not (await asyncio.to_thread(jobs.get, job_id, caller=caller)).active
        page = await asyncio.to_thread(
            jobs.events, job_id, after=after, limit=_PAGE, oldest_first=True, caller=caller
        )
        events = list(page.items)
        after = events[-1].id if events else after
        yield events
        if page.next_cursor is not None:
            continue
        if ended:
            return
        await asyncio.sleep(_LOOK_SECONDS)
