"""A job's log as its runner writes it: many entries at once, and none that stops a job."""

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


_PAGE = 200


_LOOK_SECONDS = 0.5


async def follow(
    jobs: Jobs, job_id: str, *, after: int | None = None, caller: Caller
) -> AsyncIterator[list[JobEvent]]:
    """Yield what is new in a job's log, again and again, until the job has ended.

    A list may be empty: nothing has happened for half a second.

    Raises:
        UnknownJob: there is none that the caller may know of.
        DatabaseUnavailable: as it says.
    """
    while True:
        # Looked at before the log: what is written by the end is read after it.
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
