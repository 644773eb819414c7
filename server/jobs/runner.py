"""The job queue: claims queued jobs, one per device, and runs each to its end.

The learning runs in a child process, and this one supervises it: twice a second it renews the
job's heartbeat and reads whether the job was cancelled; the child of a cancelled job is killed at
once, and so is that of a job whose time is over. A child that died is started again from its last
checkpoint, and a job whose gateway died is claimed by the next gateway. Database and disk are used
in threads, so they never block the event loop.
Not covered: learning (`worker`), and what follows it (`finish`).
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
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

from registry.errors import RegistryError
from registry.jobs.types import EndStatus, Job, Json, Note
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.children import ChildDied, ChildFailed
from server.engine.protocol import EngineUnavailable
from server.environment import hub_names
from server.jobs import worker
from server.jobs.failures import Failure, JobFailed, failure_of, timed_out
from server.jobs.finish import Finished, Finisher
from server.jobs.launch import Launch, launch_here
from server.jobs.log import JobLog
from server.jobs.presence import Presence
from server.jobs.spec import spec_of
from server.jobs.storage import JobStorage
from server.jobs.worker import Entry, WorkerSpec
from server.served_bases import ServedBases
from server.settings import Settings
from server.shared_tasks import run_or_undo

T = TypeVar("T")
MOST_ATTEMPTS = 3
_log = logging.getLogger("weft.jobs")


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the queue acts, in seconds."""

    look: float = 1.0  # between looks for queued jobs
    beat: float = 0.5  # between heartbeats
    note: float = 0.2  # between writes of a job's log
    save: float = 30.0  # between saves of a job's folder for other gateways
    silence: float = 20.0  # without a heartbeat, after which a job is claimed from its worker
    retry: float = 5.0  # before a step that may succeed later is tried again
    retries: int = 60


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: the columns of its row."""

    status: EndStatus
    report: Json | None = None
    model: str | None = None
    failure: Failure | None = None


class Runner:
    """Runs jobs of served bases. `start` begins to claim them; `stop` requeues those that run."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        versions: BlobStore,
        storage: JobStorage,
        finisher: Finisher,
        bases: ServedBases,
        *,
        launch: Launch | None = None,
        entry: Entry | None = None,
        intervals: Intervals | None = None,
    ) -> None:
        self._settings, self._registry, self._versions = settings, registry, versions
        self._jobs, self._storage, self._finisher = registry.jobs, storage, finisher
        self._presence = Presence(registry.jobs, storage, versions)
        self._bases, self._entry = bases, entry or worker.learn
        self._launch = launch or launch_here
        self._intervals = intervals or Intervals()
        self._name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._look_for_silent_at = 0.0
        # Not the default executor: each job occupies a thread for as long as its child runs.
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Begin to claim jobs, one at a time for each device of the settings."""
        devices = self._settings.job_devices
        if not devices:
            return
        self._threads = ThreadPoolExecutor(len(devices), thread_name_prefix="weft-job")
        self._tasks = [
            asyncio.create_task(self._work(device), name=f"jobs on {device}") for device in devices
        ]

    async def stop(self) -> None:
        """End the running jobs and requeue them; they resume from their checkpoints."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown)

    def wake(self) -> None:
        """Look for queued jobs now."""
        self._wake.set()

    async def _work(self, device: str) -> None:
        while True:
            self._wake.clear()
            try:
                job = await run_or_undo(lambda: self._claim(device), self._release)
                if job is not None:
                    await self._supervise(job, device)
                    continue
            except RegistryError as error:  # the database is unavailable for now
                _log.warning("cannot claim a job: %s", error)
                # Other workers could not beat either: they have time to, once the database is back.
                self._look_for_silent_at = time.monotonic() + self._intervals.silence
            except Exception:  # the queue goes on with the next job
                _log.exception("cannot run a job")
            await self._pause(self._intervals.look)

    def _claim(self, device: str) -> Job | None:
        """Claim a queued job, after jobs whose workers fell silent are requeued."""
        if time.monotonic() >= self._look_for_silent_at:
            self._look_for_silent_at = time.monotonic() + self._intervals.silence / 4
            self._jobs.requeue(self._intervals.silence, most_attempts=MOST_ATTEMPTS)
        runnable = self._presence.runnable(self._bases.names)
        if not runnable:  # reads take no write lock
            return None
        name = f"{self._name}:{uuid.uuid4().hex[:8]}"
        return self._jobs.claim(name, device, among=runnable)

    def _release(self, job: Job | None) -> None:
        if job is not None:
            with suppress(RegistryError):  # it is requeued once its heartbeat is too old
                self._jobs.release(job.id, str(job.worker))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _supervise(self, job: Job, device: str) -> None:
        """Run a job until it ends, is cancelled or is lost to another worker; store its result."""
        running = asyncio.create_task(self._run(job, device), name=job.id)
        try:
            result = await self._watch(job, running)
        except asyncio.CancelledError:
            await _cancelled(running)
            await asyncio.to_thread(self._release, job)
            raise
        if result is not None:
            await self._retried(lambda: asyncio.to_thread(self._store, job, result))

    async def _watch(self, job: Job, running: asyncio.Task[JobResult]) -> JobResult | None:
        """Send heartbeats until the job ends or its time is over.

        Returns None when another worker owns the job.
        """
        limit = self._settings.job_timeout_seconds
        deadline = time.monotonic() + limit
        while not running.done():
            if time.monotonic() > deadline:
                await _cancelled(running)
                return JobResult("failed", failure=timed_out(limit))
            try:
                beat = await asyncio.to_thread(self._jobs.beat, job.id, str(job.worker))
            except RegistryError as error:
                _log.warning("%s: %s", job.id, error)
            else:
                if not beat.owned or beat.cancel:
                    await _cancelled(running)
                    return JobResult("cancelled") if beat.owned else None
            await asyncio.wait({running}, timeout=self._intervals.beat)
        return running.result()

    async def _run(self, job: Job, device: str) -> JobResult:
        """Learn, then finish. An exception becomes a failed result."""
        log = JobLog(self._jobs, job.id)
        try:
            await self._retried(lambda: asyncio.to_thread(self._storage.claim, job.id))
            outcome: Json | None = await asyncio.to_thread(self._storage.outcome, job.id)
            if outcome is None:
                outcome = await self._learn(job, device, log)
            finished = await self._finish(job, outcome, log)
        except Exception as error:
            failure = failure_of(error)
            await log.add_bad_lines(failure)
            return JobResult("failed", failure=failure)
        status: EndStatus = "succeeded" if finished.failure is None else "failed"
        return JobResult(status, finished.report, finished.model, finished.failure)

    async def _learn(self, job: Job, device: str, log: JobLog) -> Json:
        """Run the job's child, again when it dies; return the outcome that it wrote.

        Raises:
            JobFailed: the learning failed, or the child died too often.
        """
        spec = await asyncio.to_thread(
            spec_of, job, device, self._bases[job.base].settings, self._registry, self._versions,
            self._storage,
        )  # fmt: skip
        for attempt in range(job.attempts, MOST_ATTEMPTS + 1):
            try:
                await self._run_child(job.id, spec, log)
                break
            except ChildDied as error:
                if attempt == MOST_ATTEMPTS:
                    message = f"{error}; it was started {attempt} times and is not started again"
                    raise JobFailed(Failure("worker_died", message)) from error
                await log.say(f"{error}; it resumes from its last checkpoint", "warn")
        save = partial(self._storage.save, job.id, learned=True)
        await self._retried(lambda: asyncio.to_thread(save))
        outcome = await asyncio.to_thread(self._storage.outcome, job.id)
        assert outcome is not None, "a child that returns has written its outcome"
        return outcome

    async def _run_child(self, job: str, spec: WorkerSpec, log: JobLog) -> None:
        """Run a child once and log its notes. The child is gone afterwards.

        Raises:
            JobFailed: the learning failed.
            ChildDied: the child was killed.
        """
        assert self._threads is not None
        names = hub_names(spec.model)
        child = await run_or_undo(
            lambda: self._launch(self._entry, spec, names, self._storage),
            lambda child: child.reap(),
        )
        notes: SimpleQueue[Note] = SimpleQueue()

        def listen() -> None:
            try:
                for note in child.messages():
                    notes.put(note)
            except ChildFailed as error:
                raise JobFailed(error.reason) from None
            finally:
                child.reap()

        listening = asyncio.get_running_loop().run_in_executor(self._threads, listen)
        saving = asyncio.create_task(self._keep_saving(job), name=f"saves of {job}")
        try:
            while not listening.done():
                await asyncio.wait({listening}, timeout=self._intervals.note)
                await log.add([notes.get() for _ in range(notes.qsize())])
            listening.result()
        finally:
            child.kill()
            saving.cancel()
            await asyncio.wait({listening, saving})
            listening.exception()  # retrieved, else asyncio logs it for a cancelled job

    async def _keep_saving(self, job: str) -> None:
        """Save the folder of a running job again and again, if other gateways can have it."""
        while self._storage.shared:
            await asyncio.sleep(self._intervals.save)
            try:
                await asyncio.to_thread(self._storage.save, job)
            except (RegistryError, OSError) as error:
                _log.warning("%s is not saved: %s", job, error)

    async def _finish(self, job: Job, outcome: Json, log: JobLog) -> Finished:
        try:
            return await self._retried(lambda: self._finisher.finish(job, outcome, log.say))
        except EngineUnavailable:
            finisher = self._finisher.without_engines("The engine does not answer.")
            return await finisher.finish(job, outcome, log.say)

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of a call, trying again after errors that may pass."""
        for _ in range(self._intervals.retries):
            try:
                return await call()
            except Exception as error:
                if getattr(error, "retry_after_seconds", None) is None:
                    raise
                _log.info("trying again in %g s: %s", self._intervals.retry, error)
            await asyncio.sleep(self._intervals.retry)
        return await call()

    def _store(self, job: Job, result: JobResult) -> None:
        # Unless it succeeded, nothing in its folder can be published. Asking who owns it comes
        # first: another gateway may have taken it over, and writes there.
        if result.status != "succeeded" and self._jobs.beat(job.id, str(job.worker)).owned:
            self._storage.remove_job(job.id)
        error = None if result.failure is None else result.failure.to_json()
        self._jobs.finish(
            job.id, str(job.worker), result.status, report=result.report, error=error,
            model=result.model, trained_tokens=(result.report or {}).get("trained_tokens"),
        )  # fmt: skip
        if result.status == "succeeded":
            self._storage.remove_checkpoints(job.id)


async def _cancelled(running: asyncio.Task[JobResult]) -> None:
    """Cancel a task and wait until it has ended."""
    running.cancel()
    await asyncio.wait({running})
