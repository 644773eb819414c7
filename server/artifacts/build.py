"""Builds: a recipe becomes an artifact, in worker processes, one build per recipe at a time.

Covered: single flight, the process pool, adopting the result into the store and recording it.
Not covered: what a merge is (`merge.run`), and loading the result (`provide.py`).
"""

import asyncio
import functools
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from merge.recipe import Recipe
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.artifacts import worker
from server.artifacts.store import ArtifactStore, storage_errors
from server.metrics import Metrics
from server.settings import Settings

_GRACE_SECONDS = 15.0


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


class _Build:
    """One build that requests wait for."""

    def __init__(self) -> None:
        self.waiters = 0
        self.begun = False
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
    ) -> None:
        self._settings, self._registry = settings, registry
        self._versions, self._artifacts, self._metrics = versions, artifacts, metrics
        self._builds: dict[str, _Build] = {}
        self._turn = asyncio.Semaphore(settings.merge_workers)
        self._pool: ProcessPoolExecutor | None = None
        self._lifeline: Connection | None = None  # closing it ends the pool's workers

    async def start(self) -> None:
        """Start the workers and wait until they have imported torch and the merge engine."""
        loop = asyncio.get_running_loop()
        pool = self._workers()
        await asyncio.gather(
            *(loop.run_in_executor(pool, worker.warm) for _ in range(self._settings.merge_workers))
        )

    async def stop(self) -> None:
        """End the workers. Running builds are dropped and leave no files."""
        for build in self._builds.values():
            build.task.cancel()
        if (pool := self._pool) is not None:
            self._drop(pool)
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
        await asyncio.gather(*(b.task for b in self._builds.values()), return_exceptions=True)

    async def build(self, recipe: Recipe) -> str:
        """Return the digest of the artifact of `recipe`, which is on disk then.

        Concurrent calls for one recipe share a build. A caller that is cancelled does not end the
        build for the others; a build without callers is dropped unless it has begun.

        Raises:
            merge.errors.MergeError: the members cannot be merged, or the result is unsafe.
            BuildQueueFull, BuildTimeout, BuildFailed, StoreFull, StoreBroken: it may succeed later.
        """
        key = recipe.digest()
        build = self._builds.get(key) or self._enqueue(key, recipe)
        build.waiters += 1
        try:
            return await asyncio.shield(build.task)
        finally:
            build.waiters -= 1
            if build.waiters == 0 and not build.begun:
                self._forget(
                    key, build
                )  # first, so that the next caller does not join a dropped build
                build.task.cancel()

    def _enqueue(self, key: str, recipe: Recipe) -> _Build:
        if len(self._builds) >= self._settings.merge_queue:
            raise BuildQueueFull(len(self._builds))
        build = self._builds[key] = _Build()
        build.task = asyncio.create_task(self._in_turn(build, recipe), name=f"build {key[:12]}")
        build.task.add_done_callback(lambda _: self._forget(key, build))
        return build

    def _forget(self, key: str, build: _Build) -> None:
        if self._builds.get(key) is build:
            del self._builds[key]

    async def _in_turn(self, build: _Build, recipe: Recipe) -> str:
        async with self._turn:
            build.begun = True
            return await self._build(recipe)

    async def _build(self, recipe: Recipe) -> str:
        with (
            self._metrics.building(recipe.method),
            storage_errors(),
            self._artifacts.workspace() as workspace,
        ):
            out = workspace / "merged"
            built = await self._run(recipe, out)
            return await asyncio.to_thread(self._adopt, recipe, built, out)

    async def _run(self, recipe: Recipe, out: Path) -> worker.Built:
        call = functools.partial(
            worker.build,
            recipe.canonical(),
            {item.digest: self._versions.path(item.digest) for item in recipe.ingredients},
            out,
            norm_limit=self._settings.norm_limit,
            factor_limit=self._settings.factor_limit,
            threads=self._settings.merge_threads,
            timeout_seconds=self._settings.merge_timeout_seconds,
        )
        pool, limit = self._workers(), self._settings.merge_timeout_seconds
        try:
            # The worker stops itself at the limit, unless it hangs in native code.
            async with asyncio.timeout(limit + _GRACE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(pool, call)
        except TimeoutError as error:
            self._drop(pool)
            raise worker.BuildTimeout(limit) from error
        except BrokenProcessPool as error:
            self._drop(pool)
            raise BuildFailed(
                "a merge worker died, perhaps because memory ran out; send the request again"
            ) from error

    def _drop(self, pool: ProcessPoolExecutor) -> None:
        """End the workers of a pool; the next build starts new ones."""
        if self._pool is pool:
            self._pool = None
            if self._lifeline is not None:
                self._lifeline.close()

    def _adopt(self, recipe: Recipe, built: worker.Built, out: Path) -> str:
        """Move the files into the store and return the digest that answers for the recipe.

        The digest that was recorded first answers, unless its files are gone from the store: then
        this build replaces it. Floating-point results may differ in the last bit between builds;
        the identity of an artifact may not.
        """
        digest = self._artifacts.adopt(out)
        key = recipe.digest()
        self._registry.compositions.save_recipe(
            recipe.canonical(),
            key,
            recipe.base,
            recipe.lineage,
        )
        record = functools.partial(
            self._registry.compositions.record_artifact,
            key,
            digest,
            bytes=built.nbytes,
            seconds=built.seconds,
            report=self._report(recipe, built),
        )
        recorded = record()
        return recorded if self._artifacts.has(recorded) else record(replacing=recorded)

    def _report(self, recipe: Recipe, built: worker.Built) -> dict[str, Any]:
        """Return the merge's report, with a note where ingredients were trained on other prompts.

        One merge is asked with one chat template, the base's. An ingredient that was trained with
        another may answer worse than it does elsewhere.
        """
        report: dict[str, Any] = json.loads(built.report)
        digests = [item.digest for item in recipe.ingredients]
        templates = self._registry.catalogue.chat_templates(digests)
        # An ingredient that carries no template was trained with the base's, as far as is known.
        usual = self._registry.bases.get(recipe.base).chat_template
        if len({templates.get(digest, usual) for digest in digests} - {None}) > 1:
            own = ", ".join(d[:12] for d in digests if templates.get(d, usual) != usual)
            note = (
                f"the ingredients were trained with different chat templates (not the base's: "
                f"{own}); the server applies the base's to all of them"
            )
            report["notes"] = [*report.get("notes", []), note]
        return report

    def _workers(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not a fork: it would inherit locks that other threads of this process hold.
            context = multiprocessing.get_context("spawn")
            lifeline, self._lifeline = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(
                self._settings.merge_workers,
                mp_context=context,
                initializer=worker.prepare,
                initargs=(lifeline,),
            )
        return self._pool
