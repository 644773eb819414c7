"""The worker processes of builds: one process for each build that runs.

Each has a pool of its own, so that a worker that dies or hangs takes no other's build with it. Not
covered: what a worker does (`worker.py`).
"""

import asyncio
import functools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from server.artifacts import worker
from server.artifacts.worker import BuildCall, Built

_Result = TypeVar("_Result")


class WorkerDied(Exception):
    """A worker process was killed while it ran a call."""


class WorkerHangs(Exception):
    """A worker process did not return a call in time."""


class BuildWorkers(Protocol):
    """What makes builds: processes of this machine (`Workers`), or a cluster's."""

    # Whether it gets the ingredients from the object store by itself.
    fetches: bool

    async def warm(self) -> None:
        """Prepare for the first build."""
        ...

    async def run(self, call: BuildCall, seconds: float) -> Built:
        """Return what `call` returns, with its files in `call.out`. See `Workers.run`."""
        ...

    async def stop(self) -> None:
        """End what was started here."""
        ...


class _Worker:
    """One worker process, started at its first call and again after its end."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._pool: ProcessPoolExecutor | None = None

    async def run(self, call: Callable[[], _Result], seconds: float | None) -> _Result:
        pool = self._started()
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(pool, call)
        except TimeoutError as error:
            self.end()
            raise WorkerHangs from error
        except BrokenProcessPool as error:
            self.end()
            raise WorkerDied from error

    def end(self) -> ProcessPoolExecutor | None:
        """End the process; the next call starts another. Return the pool to wait for."""
        pool, self._pool = self._pool, None
        if pool is not None:
            self._lifeline.close()
        return pool

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not a fork: it would inherit locks that other threads of this process hold.
            context = multiprocessing.get_context("spawn")
            lifeline, self._lifeline = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(
                1, mp_context=context, initializer=worker.prepare,
                initargs=(lifeline, self._memory_bytes),
            )  # fmt: skip
        return self._pool


class Workers:
    """`count` worker processes; no more calls may run at once."""

    fetches = False

    def __init__(self, count: int, memory_bytes: int) -> None:
        self._all = [_Worker(memory_bytes) for _ in range(count)]
        self._idle = list(self._all)

    async def warm(self) -> None:
        """Start every worker and wait until it has imported torch and the merge engine."""
        await asyncio.gather(*(one.run(worker.warm, None) for one in self._all))

    async def run(self, call: Callable[[], _Result], seconds: float) -> _Result:
        """Return what `call`, a function that pickles, returns in an idle worker.

        Raises:
            WorkerDied: the process was killed.
            WorkerHangs: it took longer than `seconds`; the process is ended.
        """
        one = self._idle.pop()
        try:
            return await one.run(call, seconds)
        finally:
            self._idle.append(one)

    async def stop(self) -> None:
        """End all processes and wait until they are gone."""
        pools = [pool for one in self._all if (pool := one.end())]
        for pool in pools:
            await asyncio.to_thread(
                functools.partial(pool.shutdown, wait=True, cancel_futures=True)
            )
