"""Receiving uploads of adapters: their threads, who may use how many, and how slow they may be.

A sender decides how long an upload takes. Uploads have threads of their own, so that they block no
other request; no namespace can have all of them, and none keeps one for long without sending.
Not covered: what is received (`registry.sources.upload`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from starlette.requests import ClientDisconnect

from registry.callers import Caller
from registry.sources.errors import UploadInvalid
from server.pools import Pool

T = TypeVar("T")
UPLOADS_PER_NAMESPACE = 3
SILENCE_SECONDS = 60.0
# An upload may lag behind this rate by so many seconds; then it is given up.
SLOWEST_BYTES_PER_SECOND = 2**18
LAG_SECONDS = 60.0


class TooManyUploads(Exception):
    """A namespace has as many uploads under way as it may."""

    retry_after_seconds = 10

    def __init__(self, owner: str) -> None:
        super().__init__(
            f"{owner} has {UPLOADS_PER_NAMESPACE} uploads under way, the limit: send this one when "
            "one of them has ended"
        )


class Uploads:
    """Imports in threads of their own, shared fairly by namespaces. Use it on one event loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._under_way: Counter[str] = Counter()

    async def receive(
        self, caller: Caller, stream: AsyncIterator[bytes], work: Callable[[Iterator[bytes]], T]
    ) -> T:
        """Return what `work` makes of the chunks of `stream`.

        Raises:
            TooManyUploads, PoolFull: as `run`.
            UploadInvalid: from the chunks, when they stop, or come too slowly.
        """
        chunks = _Received(stream, asyncio.get_running_loop())
        return await self.run(caller, lambda: work(chunks))

    async def run(self, caller: Caller, work: Callable[[], T]) -> T:
        """Return what `work` returns in a thread.

        Raises:
            TooManyUploads: the caller's namespace, or its key if it has none, has too many.
            PoolFull: everybody together has too many.
        """
        with self._slot(caller):
            return await self._pool.run(work)

    @contextmanager
    def _slot(self, caller: Caller) -> Iterator[None]:
        owner = f"the key {caller.name}" if caller.namespace is None else f"{caller.namespace}/"
        if self._under_way[owner] >= UPLOADS_PER_NAMESPACE:
            raise TooManyUploads(owner)
        self._under_way[owner] += 1
        try:
            yield
        finally:
            self._under_way[owner] -= 1
            if not self._under_way[owner]:
                del self._under_way[owner]


class _Received(Iterator[bytes]):
    """A request's body for a thread: each chunk is fetched from the event loop on demand."""

    def __init__(self, stream: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._stream, self._loop = stream, loop
        self._waited, self._received = 0.0, 0  # seconds for the sender, bytes from it

    def __next__(self) -> bytes:
        began = time.monotonic()
        waiting = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        slack = LAG_SECONDS + self._received / SLOWEST_BYTES_PER_SECOND - self._waited
        try:
            chunk = waiting.result(min(SILENCE_SECONDS, max(slack, 0.0)))
        except TimeoutError as error:
            waiting.cancel()
            raise UploadInvalid(_reason(slack)) from error
        except ClientDisconnect as error:
            raise UploadInvalid("it was interrupted") from error
        if chunk is None:
            raise StopIteration
        self._waited += time.monotonic() - began
        self._received += len(chunk)
        return chunk

    async def _next(self) -> bytes | None:
        return await anext(self._stream, None)


def _reason(slack: float) -> str:
    if slack < SILENCE_SECONDS:
        return f"it arrives at less than {SLOWEST_BYTES_PER_SECOND} bytes a second"
    return f"no data arrived for {SILENCE_SECONDS:g} s"
