"""Bounded pools of threads, one for each purpose, so that no kind of call waits behind another.

Blocking calls of a request run in the pool of their purpose, and owners of requests take turns in
it: one call waits for no more than the calls that run. A pool whose queue is full refuses the next
call at once. The event loop's default executor is left to builds, jobs and upkeep.
"""

import asyncio
import contextvars
import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from server.fair_queue import FairQueue

P = ParamSpec("P")
T = TypeVar("T")
# Whose request this task works for; the server's own calls are the turn of one more owner.
_OWNER: ContextVar[str] = ContextVar("weft_owner", default="")
# The part of a queue that one owner may fill, so that there is room for others.
_SHARE = 0.75


def work_for(owner: str) -> None:
    """Let the calls of this request take the turns of `owner`."""
    _OWNER.set(owner)


class PoolFull(Exception):
    """Too many calls of one purpose wait."""

    retry_after_seconds = 1

    def __init__(self, purpose: str) -> None:
        super().__init__(
            f"The server is busy: too many requests wait for its {purpose} threads. "
            f"Send the request again in {self.retry_after_seconds} s."
        )


class Pool:
    """Threads for one purpose, with a queue of limited length."""

    def __init__(self, purpose: str, *, threads: int, queue: int) -> None:
        self.purpose = purpose
        self.limit = threads + queue
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"weft-{purpose}")
        self._turns = FairQueue(
            slots=threads, most=self.limit, share=max(1, math.ceil(_SHARE * queue)),
            full=self._full, share_full=self._full,
        )  # fmt: skip

    @property
    def calls(self) -> int:
        """The number of calls that run or wait."""
        return sum(self._turns.counts)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `call` returns in a thread of the pool. Use it on one event loop.

        Raises:
            PoolFull: the queue is full, or the owner's share of it; `call` does not run.
        """
        ticket = object()
        turn = self._turns.enter(ticket, _OWNER.get())
        try:
            await turn
        except asyncio.CancelledError:
            self._turns.leave(ticket)
            raise
        context = contextvars.copy_context()
        bound = functools.partial(context.run, functools.partial(call, *args, **kwargs))
        future = asyncio.get_running_loop().run_in_executor(self._executor, bound)
        # A cancelled request leaves its thread busy: its turn lasts until the thread is free.
        future.add_done_callback(functools.partial(self._end, ticket))
        return await asyncio.shield(future)

    def _end(self, ticket: object, future: "asyncio.Future[Any]") -> None:
        self._turns.leave(ticket)
        if not future.cancelled():
            future.exception()  # marks it as seen: a request that left does not wait for it

    def _full(self, _: int) -> PoolFull:
        return PoolFull(self.purpose)


class Pools:
    """The pools of a gateway."""

    def __init__(self) -> None:
        self.auth = Pool("authentication", threads=2, queue=1000)
        self.resolve = Pool("resolving", threads=2, queue=1000)
        self.search = Pool("search", threads=2, queue=32)
        # A map keeps every core busy for a while: one at a time.
        self.map = Pool("map", threads=1, queue=16)
        self.admin = Pool("registry", threads=4, queue=128)
        self.jobs = Pool("job", threads=2, queue=64)
        self.files = Pool("file", threads=4, queue=128)
        # Links and downloads of adapters' files.
        self.store = Pool("store", threads=8, queue=128)
        # The sender decides how long an upload takes: see `server.admin.receiving`.
        self.uploads = Pool("upload", threads=8, queue=32)

    def all(self) -> tuple[Pool, ...]:
        """Return every pool."""
        return (
            self.auth, self.resolve, self.search, self.map, self.admin, self.jobs, self.files,
            self.store,
        )  # fmt: skip

    def of_tag(self, tag: str) -> Pool:
        """Return the pool for the routes with this tag."""
        by_tag = {
            "files": self.files, "fine-tuning": self.jobs, "jobs": self.jobs,
            "map": self.map, "search": self.search,
        }  # fmt: skip
        return by_tag.get(tag, self.admin)
