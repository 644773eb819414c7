"""Builds: a recipe becomes an artifact, in worker processes, one build per recipe at a time.

Covered: single flight, the turns of callers, recipes that cannot be built, adopting the result into
the store and recording it. Not covered: what a merge is (`merge.run`), the processes
(`workers.py`), other gateways (`flights.py`) and loading the result (`provide.py`).
"""

import asyncio
import functools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from merge.errors import MergeError, ProcessDied
from merge.recipe import Recipe
from registry.callers import LOCAL, Caller
from registry.service import Registry
from registry.storage.blobs import BlobStore
from registry.versions.compositions import NewRecipe
from server.artifacts import worker
from server.artifacts.flights import Flights
from server.artifacts.refusals import Refusals
from server.artifacts.store import ArtifactStore, storage_errors
from server.artifacts.workers import BuildWorkers, WorkerDied, WorkerHangs, Workers
from server.compose.templates import mixed_templates
from server.fair_queue import FairQueue
from server.meter import Meter
from server.settings import Settings
from server.shared_tasks import shared_task
from server.telemetry.metrics import Metrics

# Is told of the files of an artifact before the registry is.
Adopted: TypeAlias = Callable[[str], None]
_GRACE_SECONDS = 15.0
# A worker that dies is often not its build's fault: the system was short of memory.
_ATTEMPTS = 2
# What a recipe is to blame for. It would come out the same way at once, so it is remembered.
_LASTING = (MergeError, worker.BuildTimeout, worker.BuildTooLarge)


class BuildFailed(Exception):
    """A build failed because of the server, not of the request; the next one may succeed."""

    retry_after_seconds = 5


class BuildQueueFull(Exception):
    """The queue of merges is full."""

    retry_after_seconds = 5

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} merges are queued, which is the limit (WEFT_MERGE_QUEUE): try again later"
        )


class TooManyBuilds(Exception):
    """One caller has as many merges waiting as it may."""

    retry_after_seconds = 5

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} merges of your namespace or key are queued, which is the limit "
            "(WEFT_MERGE_QUEUE_SHARE): try again when some of them have answered"
        )


def ignore(_digest: str) -> None:
    """Do nothing with an artifact that is not recorded yet."""


@dataclass(frozen=True, slots=True)
class BuildInFlight:
    """A build that requests wait for, since it was first asked for."""

    recipe: str  # its digest
    method: str
    caller: Caller  # the first to ask
    begun: bool
    waiters: int
    seconds: float


class _Build:
    """One build that requests wait for."""

    def __init__(self, recipe: Recipe, caller: Caller, adopted: Adopted) -> None:
        self.method, self.asked_at = recipe.method, time.monotonic()
        self.caller = caller  # whoever asked first; the seconds of the build are counted for it
        self.adopted = adopted
        self.waiters = 0
        self.begun = False
        self.turn: asyncio.Future[None]
        self.task: asyncio.Task[str]


class Builder:
    """Builds artifacts. `start` warms the workers; `stop` ends them."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        versions: BlobStore,
        artifacts: ArtifactStore,
        metrics: Metrics,
        meter: Meter,
        workers: BuildWorkers | None = None,
    ) -> None:
        self._meter = meter
        self._settings, self._registry = settings, registry
        self._versions, self._artifacts, self._metrics = versions, artifacts, metrics
        self._builds: dict[str, _Build] = {}
        self._queue = FairQueue(
            slots=settings.merge_workers, most=settings.merge_queue,
            share=settings.merge_queue_share, full=BuildQueueFull, share_full=TooManyBuilds,
        )  # fmt: skip
        self._workers: BuildWorkers = workers or Workers(
            settings.merge_workers, settings.merge_max_bytes
        )
        self._refusals = Refusals()
        patience = settings.merge_timeout_seconds + _GRACE_SECONDS
        self._flights = Flights(registry.locks, self._recorded, patience)

    @property
    def counts(self) -> tuple[int, int]:
        """The number of builds that run and of those that wait."""
        return self._queue.counts

    def in_flight(self) -> list[BuildInFlight]:
        """Return the builds that run or wait, oldest first."""
        now = time.monotonic()
        return [
            BuildInFlight(
                key, build.method, build.caller, build.begun, build.waiters, now - build.asked_at
            )
            for key, build in self._builds.items()
        ]

    async def start(self) -> None:
        """Start the workers and wait until they have imported torch and the merge engine."""
        await self._workers.warm()

    async def stop(self) -> None:
        """End the workers. Running builds are dropped and leave no files."""
        for build in self._builds.values():
            build.task.cancel()
        await self._workers.stop()
        await asyncio.gather(*(b.task for b in self._builds.values()), return_exceptions=True)

    async def build(
        self, recipe: Recipe, *, caller: Caller = LOCAL, adopted: Adopted = ignore
    ) -> str:
        """Return the digest of the artifact of `recipe`, which is on disk then.

        Concurrent calls for one recipe share a build. A caller that is cancelled does not end the
        build for the others; a build without callers is dropped unless it has begun. Callers take
        turns by `Caller.owner`. The first caller's `adopted` is called when the files are in the
        store, while the registry records them.

        Raises:
            merge.errors.MergeError: the members cannot be merged, or the result is unsafe.
            BuildTimeout, BuildTooLarge: it takes too long, or too much memory. As MergeError, it is
                remembered for a while.
            RateLimited: the caller may not begin another build now.
            registry.errors.StoreUnavailable: the bucket does not take the result.
            BuildQueueFull, TooManyBuilds, BuildFailed, StoreFull, StoreBroken: it may succeed
                later.
        """
        key = recipe.digest()
        self._refusals.check(key)
        build = self._builds.get(key)
        if build is None:
            self._meter.check_build(caller)
            build = self._enqueue(key, recipe, _Build(recipe, caller, adopted))
        else:
            self._queue.join(build, caller.owner)
        build.waiters += 1
        try:
            return await asyncio.shield(build.task)
        finally:
            build.waiters -= 1
            if build.waiters == 0 and not build.begun:
                # First, so that the next caller does not join a dropped build.
                self._forget(key, build)
                build.task.cancel()

    def _enqueue(self, key: str, recipe: Recipe, build: _Build) -> _Build:
        build.turn = self._queue.enter(build, build.caller.owner)
        self._meter.begun(build.caller)
        build.task = shared_task(self._in_turn(build, recipe), name=f"build {key[:12]}")
        build.task.add_done_callback(lambda _: self._forget(key, build))
        self._builds[key] = build
        return build

    def _forget(self, key: str, build: _Build) -> None:
        self._queue.leave(build)
        if self._builds.get(key) is build:
            del self._builds[key]

    async def _in_turn(self, build: _Build, recipe: Recipe) -> str:
        key = recipe.digest()
        with self._metrics.queued(recipe.method):
            await build.turn
        try:
            first = await self._flights.begin(key)
            if not first:
                self._queue.leave(build)  # others may use the worker meanwhile
                await self._flights.wait(key)
            digest = await self._flights.built(key)
            if digest is not None:
                self._meter.not_begun(build.caller)
                return digest
            if not first:
                build.turn = self._queue.enter(build, build.caller.owner)
                await build.turn
            return await self._alone(build, recipe)
        finally:
            await self._flights.end(key)

    async def _alone(self, build: _Build, recipe: Recipe) -> str:
        build.begun = True
        started = time.monotonic()
        try:
            return await self._build(recipe, build.adopted)
        except _LASTING as error:
            self._refusals.add(recipe.digest(), error)
            raise
        finally:
            self._meter.built(build.caller, time.monotonic() - started)

    async def _build(self, recipe: Recipe, adopted: Adopted) -> str:
        # While the worker merges: what follows the merge delays the answer.
        note = shared_task(asyncio.to_thread(self._note, recipe), name="note of a merge")
        with self._metrics.building(recipe.method), storage_errors():
            async with self._workspace() as workspace:
                out, built = await self._merged(recipe, workspace)
                digest = await asyncio.to_thread(self._artifacts.adopt, out)
                await asyncio.to_thread(self._artifacts.share, digest)
                adopted(digest)
                return await asyncio.to_thread(self._record, recipe, built, digest, await note)

    @asynccontextmanager
    async def _workspace(self) -> AsyncIterator[Path]:
        """Yield a folder for a build. A thread removes it: what is left there may be large."""
        workspace = self._artifacts.workspace()
        folder = workspace.__enter__()
        try:
            yield folder
        finally:
            await asyncio.to_thread(workspace.__exit__, None, None, None)

    async def _merged(self, recipe: Recipe, workspace: Path) -> tuple[Path, worker.Built]:
        for attempt in range(_ATTEMPTS):
            out = workspace / f"merged-{attempt}"
            try:
                return out, await self._run(recipe, out)
            except (WorkerDied, ProcessDied):
                continue
        raise BuildFailed(
            f"a merge worker was killed, {_ATTEMPTS} times, perhaps because the machine is "
            "short of memory; send the request again"
        )

    async def _run(self, recipe: Recipe, out: Path) -> worker.Built:
        limit = self._settings.merge_timeout_seconds
        digests = tuple(item.digest for item in recipe.ingredients)
        call = worker.BuildCall(
            worker.build,
            recipe.canonical(),
            {} if self._workers.fetches else await self._folders(digests),
            out,
            {
                "norm_limit": self._settings.norm_limit,
                "factor_limit": self._settings.factor_limit,
                "threads": self._settings.merge_threads,
                "timeout_seconds": limit,
            },
            digests,
        )
        try:
            # The worker stops itself at the limit, unless it hangs in native code.
            return await self._workers.run(call, limit + _GRACE_SECONDS)
        except WorkerHangs as error:
            raise worker.BuildTimeout(limit) from error

    async def _folders(self, digests: Sequence[str]) -> dict[str, Path]:
        # In threads: what this machine has no copy of is downloaded.
        paths = await asyncio.gather(*(asyncio.to_thread(self._versions.path, d) for d in digests))
        return dict(zip(digests, paths, strict=True))

    def _recorded(self, recipe: str) -> str | None:
        """Return the artifact of a recipe if it is in the store, or in the bucket."""
        digest = self._registry.compositions.artifact_of(recipe)
        with storage_errors():
            return digest if digest is not None and self._artifacts.fetch(digest) else None

    def _record(self, recipe: Recipe, built: worker.Built, digest: str, note: str | None) -> str:
        """Record the artifact and return the digest that answers for the recipe.

        The digest that was recorded first answers, unless its files are gone from the store: then
        this build replaces it. Another gateway's is in the bucket. Floating-point results may
        differ in the last bit between builds; the identity of an artifact may not.
        """
        report: dict[str, Any] = json.loads(built.report)
        if note is not None:
            report["notes"] = [*report.get("notes", []), note]
        record = functools.partial(
            self._registry.compositions.record_artifact,
            recipe.digest(),
            digest,
            bytes=built.nbytes,
            seconds=built.seconds,
            report=report,
            recipe=NewRecipe(recipe.canonical(), recipe.base, recipe.lineage),
        )
        recorded = record()
        return recorded if self._artifacts.fetch(recorded) else record(replacing=recorded)

    def _note(self, recipe: Recipe) -> str | None:
        """Return a sentence for the report where chat templates differ."""
        digests = [item.digest for item in recipe.ingredients]
        return mixed_templates(self._registry, recipe.base, digests)
