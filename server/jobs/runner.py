"""The queue: takes jobs that wait, one per device, and sees each to its end.

A job's process learns, this one watches: every half second it says that it lives and learns whether
the job is still wanted; a cancelled one is killed at once. A process that was killed is started
again from its last checkpoint, and a job whose gateway was killed is taken up by the next. Database
and disk are waited for in threads: the event loop never is.
Not covered: learning (`worker`), and what comes after it (`closing`).
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TypeVar

from registry.errors import RegistryError
from registry.jobs.types import EndStatus, Job, Json, Note
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.children import Child, ChildDied, ChildFailed
from server.engine.protocol import EngineUnavailable
from server.errors import row_of
from server.jobs import worker
from server.jobs.failures import Failure, JobFailed, failure_of
from server.jobs.finish import Closed, Closing
from server.jobs.log import JobLog
from server.jobs.storage import JobStorage
from server.jobs.tasks import task_of
from server.jobs.worker import Entry, Task
from server.settings import Settings

T = TypeVar("T")
MOST_ATTEMPTS = 3
_log = logging.getLogger("weft.jobs")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done, in seconds."""

    look: float = 1.0  # for jobs that wait
    beat: float = 0.5
    note: float = 0.2  # what happened meanwhile is written down together
    silence: float = 20.0  # after which another worker's job is taken up
    retry: float = 5.0  # of what is not possible now
    retries: int = 60


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, as its row will say."""

    status: EndStatus
    report: Json | None = None
    model: str | None = None
    failure: Failure | None = None


class Runner:
    """Runs jobs for one base. `start` begins to look for them; `stop` puts back what runs."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        versions: BlobStore,
        storage: JobStorage,
        closing: Closing,
        base: str,
        *,
        entry: Entry | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._settings, self._registry, self._versions = settings, registry, versions
        self._jobs, self._storage, self._closing = registry.jobs, storage, closing
        self._base, self._entry, self._pace = base, entry or worker.learn, pace or Pace()
        self._name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._look_for_silent_at = 0.0
        # Threads of their own: a process is listened to for as long as it runs.
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Begin to take jobs: one at a time for each device of the settings."""
        devices = self._settings.job_devices
        if not devices:
            return
        self._threads = ThreadPoolExecutor(len(devices), thread_name_prefix="weft-job")
        self._tasks = [
            asyncio.create_task(self._work(device), name=f"jobs on {device}") for device in devices
        ]

    async def stop(self) -> None:
        """End what runs and put it back into the queue, from where it goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown)

    def wake(self) -> None:
        """Have somebody look now: a job was added, or one is to end."""
        self._wake.set()

    async def _work(self, device: str) -> None:
        while True:
            self._wake.clear()
            try:
                job = await _whole(lambda: self._claim(device), self._give_back)
                if job is not None:
                    await self._see_through(job, device)
                    continue
            except RegistryError as error:  # the database is away: it will be back
                _log.warning("no job can be taken: %s", error)
            except Exception:  # whatever it was, the next job is another
                _log.exception("a job could not be seen through")
            await self._pause(self._pace.look)

    def _claim(self, device: str) -> Job | None:
        """Take a job that waits, after those whose workers have fallen silent wait again."""
        if time.monotonic() >= self._look_for_silent_at:
            self._look_for_silent_at = time.monotonic() + self._pace.silence / 4
            self._jobs.requeue(self._pace.silence, most_attempts=MOST_ATTEMPTS)
        if not self._jobs.page(status="queued", limit=1).items:  # a read holds nobody up
            return None
        name = f"{self._name}:{uuid.uuid4().hex[:8]}"
        return self._jobs.claim(name, device, base=self._base)

    def _give_back(self, job: Job | None) -> None:
        if job is not None:
            with suppress(RegistryError):  # then its silence will tell
                self._jobs.release(job.id, str(job.worker))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _see_through(self, job: Job, device: str) -> None:
        """Have a job done, for as long as it is ours and wanted, and write down how it ended."""
        doing = asyncio.create_task(self._do(job, device), name=job.id)
        try:
            ending = await self._watch(job, doing)
        except asyncio.CancelledError:
            await _ended(doing)
            await asyncio.to_thread(self._give_back, job)
            raise
        if ending is not None:
            await self._patiently(lambda: asyncio.to_thread(self._finish, job, ending))

    async def _watch(self, job: Job, doing: asyncio.Task[Ending]) -> Ending | None:
        """Beat until it is done; return how it ended, None when it is not ours any more."""
        while not doing.done():
            try:
                beat = await asyncio.to_thread(self._jobs.beat, job.id, str(job.worker))
            except RegistryError as error:
                _log.warning("%s: %s", job.id, error)
            else:
                if not beat.mine or beat.cancel:
                    await _ended(doing)
                    return Ending("cancelled") if beat.mine else None
            await asyncio.wait({doing}, timeout=self._pace.beat)
        return doing.result()

    async def _do(self, job: Job, device: str) -> Ending:
        """Learn, then close; every way in which that can fail is an ending."""
        log = JobLog(self._jobs, job.id)
        try:
            outcome: Json | None = await asyncio.to_thread(self._storage.outcome, job.id)
            if outcome is None:
                outcome = await self._learned(job, device, log)
            found = await self._closed(job, outcome, log)
        except Exception as error:
            failure = failure_of(error)
            await log.tell_bad_lines(failure)
            return Ending("failed", failure=failure)
        status: EndStatus = "succeeded" if found.failure is None else "failed"
        return Ending(status, found.report, found.model, found.failure)

    async def _learned(self, job: Job, device: str, log: JobLog) -> Json:
        """Run the job's process to its end, again when it is killed; return what it found.

        Raises:
            JobFailed: with what the process said, or when it was killed too often.
        """
        task = await asyncio.to_thread(
            task_of, job, device, self._settings, self._registry, self._versions, self._storage
        )
        for attempt in range(job.attempts, MOST_ATTEMPTS + 1):
            try:
                await self._run(task, log)
                break
            except ChildDied as error:
                if attempt == MOST_ATTEMPTS:
                    said = f"{error}; it was started {attempt} times: not again"
                    raise JobFailed(Failure("worker_died", said)) from error
                await log.say(f"{error}; it goes on from its last checkpoint", "warn")
        outcome = await asyncio.to_thread(self._storage.outcome, job.id)
        assert outcome is not None, "a process that came to its end has written its outcome"
        return outcome

    async def _run(self, task: Task, log: JobLog) -> None:
        """Run a process once, and write down what it tells; it is gone afterwards."""
        assert self._threads is not None
        child: Child[Note] = await _whole(
            lambda: Child(worker.run, self._entry, task, nice=worker.NICE, explain=failure_of),
            Child.reap,
        )
        told: SimpleQueue[Note] = SimpleQueue()

        def listen() -> None:
            try:
                for note in child.messages():
                    told.put(note)
            except ChildFailed as error:
                raise JobFailed(error.reason) from None
            finally:
                child.reap()

        listening = asyncio.get_running_loop().run_in_executor(self._threads, listen)
        try:
            while not listening.done():
                await asyncio.wait({listening}, timeout=self._pace.note)
                await log.add([told.get() for _ in range(told.qsize())])
            listening.result()
        finally:
            child.kill()
            await asyncio.wait({listening})
            listening.exception()  # looked at: of a job that was cancelled nobody asks for it

    async def _closed(self, job: Job, outcome: Json, log: JobLog) -> Closed:
        try:
            return await self._patiently(lambda: self._closing.close(job, outcome, log.say))
        except EngineUnavailable:
            closing = replace(self._closing, engine=None)
            return await closing.close(job, outcome, log.say)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what a call gives, trying again where that may help."""
        for _ in range(self._pace.retries):
            try:
                return await call()
            except Exception as error:
                if row_of(error).retry_after_seconds is None:
                    raise
                _log.info("again in %g s: %s", self._pace.retry, error)
            await asyncio.sleep(self._pace.retry)
        return await call()

    def _finish(self, job: Job, ending: Ending) -> None:
        if ending.status == "cancelled":
            self._storage.remove_job(job.id)
        error = None if ending.failure is None else ending.failure.to_json()
        self._jobs.finish(
            job.id, str(job.worker), ending.status, report=ending.report, error=error,
            model=ending.model, trained_tokens=(ending.report or {}).get("trained_tokens"),
        )  # fmt: skip
        if ending.status == "succeeded":
            self._storage.remove_checkpoints(job.id)


async def _whole(call: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Return what a call in a thread gives; whoever is cancelled meanwhile has it undone there."""
    calling = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.to_thread(undo, await calling)
        raise


async def _ended(doing: asyncio.Task[Ending]) -> None:
    """Cancel a task and wait until it has let go of everything."""
    doing.cancel()
    await asyncio.wait({doing})
