"""Bounded pools of threads, one for each purpose, so that no kind of call waits behind another.

Blocking calls of a request run in the pool of their purpose. A pool whose queue is full refuses
the next call at once. The event loop's default executor is left to builds, jobs and upkeep.
"""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
        self._calls: set[Future[Any]] = set()

    @property
    def calls(self) -> int:
        """The number of calls that run or wait."""
        return len(self._calls)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `call` returns in a thread of the pool. Use it on one event loop.

        Raises:
            PoolFull: the queue is full; `call` does not run.
        """
        if len(self._calls) >= self.limit:
            raise PoolFull(self.purpose)
        context = contextvars.copy_context()
        bound = functools.partial(context.run, functools.partial(call, *args, **kwargs))
        future = self._executor.submit(bound)
        self._calls.add(future)
        # A cancelled request leaves its thread busy: the call counts until the thread is free.
        future.add_done_callback(self._calls.discard)
        return await asyncio.wrap_future(future)


class Pools:
    """The pools of a gateway."""

    def __init__(self) -> None:
        self.auth = Pool("authentication", threads=2, queue=1000)
        self.resolve = Pool("resolving", threads=4, queue=1000)
        self.search = Pool("search", threads=2, queue=32)
        self.admin = Pool("registry", threads=4, queue=128)
        self.jobs = Pool("job", threads=2, queue=64)
        self.files = Pool("file", threads=4, queue=128)
        # The sender decides how long an upload takes: see `server.admin.receiving`.
        self.uploads = Pool("upload", threads=8, queue=32)

    def all(self) -> tuple[Pool, ...]:
        """Return every pool."""
        return self.auth, self.resolve, self.search, self.admin, self.jobs, self.files

    def of_tag(self, tag: str) -> Pool:
        """Return the pool for the routes with this tag."""
        by_tag = {
            "files": self.files, "fine-tuning": self.jobs, "jobs": self.jobs,
            "search": self.search,
        }  # fmt: skip
        return by_tag.get(tag, self.admin)
