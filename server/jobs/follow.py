"""A job's log as it grows, to its end: for streams and for whoever waits at a terminal."""

import asyncio
from collections.abc import AsyncIterator

from registry.callers import Caller
from registry.jobs.queue import Jobs
from registry.jobs.types import JobEvent

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
