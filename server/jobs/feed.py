"""A job's log as clients follow it; the followers of one job share every read of the database."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from registry.callers import Caller
from registry.jobs.queue import Jobs
from registry.jobs.types import JobEvent
from registry.paging import Page
from server.pools import Pool, PoolFull
from server.shared_tasks import shared_task

_PAGE = 200
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class _Look:
    """The state of a job: whether it can still change, and the id of its newest entry."""

    active: bool
    newest: int


class JobFeed:
    """Follows the logs of jobs. Use it on one event loop."""

    def __init__(self, jobs: Jobs, pool: Pool) -> None:
        self._jobs, self._pool = jobs, pool
        self._reads: dict[Any, tuple[float, asyncio.Task[Any]]] = {}

    async def follow(
        self, job_id: str, *, after: int | None = None, caller: Caller
    ) -> AsyncIterator[list[JobEvent]]:
        """Yield the new entries of a job's log until the job has ended.

        A list is empty when there was no entry for half a second.

        Raises:
            UnknownJob: the caller can see no such job.
            DatabaseUnavailable: the log cannot be read.
        """
        await self._pool.run(self._jobs.get, job_id, caller=caller)
        seen = after or 0
        while True:
            try:
                # The state first: entries that precede the end are then in the page read after it.
                look: _Look = await self._shared(job_id, lambda: self._look(job_id))
                events: list[JobEvent] = []
                if look.newest > seen:
                    key, read = (job_id, seen, look.newest), self._page_after(job_id, seen)
                    page: Page[JobEvent] = await self._shared(key, read)
                    events = list(page.items)
                    seen = events[-1].id if events else look.newest
            except PoolFull:  # the next look may succeed
                look, events = _Look(active=True, newest=seen), []
            yield events
            if look.newest > seen:
                continue
            if not look.active:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self, job_id: str) -> _Look:
        def read() -> _Look:
            active = self._jobs.get(job_id).active
            newest = self._jobs.events(job_id, limit=1, oldest_first=False).items
            return _Look(active, newest[0].id if newest else 0)

        return await self._pool.run(read)

    def _page_after(
        self, job_id: str, seen: int
    ) -> Callable[[], Coroutine[Any, Any, Page[JobEvent]]]:
        async def read() -> Page[JobEvent]:
            return await self._pool.run(
                self._jobs.events, job_id, after=seen, limit=_PAGE, oldest_first=True
            )

        return read

    async def _shared(self, key: Any, read: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return what `read` returns, or returned to another follower half a second ago."""
        now = time.monotonic()
        made_at, task = self._reads.get(key, (0.0, None))
        if task is None or now - made_at >= _LOOK_SECONDS:
            self._reads = {k: v for k, v in self._reads.items() if now - v[0] < _LOOK_SECONDS}
            task = shared_task(read(), name="events of jobs")
            self._reads[key] = (now, task)
        return await asyncio.shield(task)
