"""From a target to a digest that is on disk, in the engine and leased.

The order matters: the lease is taken before the files are looked for, so that nothing can be
removed between the look and the load.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from merge.recipe import Recipe
from registry.service import Registry
from registry.storage.blobs import BlobStore
from server.artifacts.build import Builder
from server.artifacts.leases import Leases
from server.artifacts.store import ArtifactStore, storage_errors
from server.compose.resolve import Planned, Stored
from server.engine.protocol import Engine
from server.metrics import Metrics, Timings

_ATTEMPTS = 3


class ArtifactGone(Exception):
    """An artifact was named by its digest, its files are gone and it cannot be built again."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__(
            f"the files of artifact {digest} are gone and its recipe no longer gives the same "
            "bytes on this machine; name the composition instead"
        )


class Provider:
    """Makes targets servable. One instance per gateway."""

    def __init__(
        self, registry: Registry, versions: BlobStore, artifacts: ArtifactStore, builder: Builder,
        engine: Engine, leases: Leases, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._registry, self._versions, self._artifacts = registry, versions, artifacts
        self._builder, self._engine, self._leases, self._metrics = builder, engine, leases, metrics
        self._loaded: set[tuple[int, str]] = set()  # (engine generation, digest)
        self._loading: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def provide(self, target: Stored | Planned, timings: Timings) -> AsyncIterator[str]:
        """Yield the digest that answers for `target`, leased and in the engine's memory.

        Raises:
            merge.errors.MergeError, BuildTimeout, BuildFailed, StoreFull, ArtifactGone: as `hold`.
            EngineRefused, EngineUnavailable: not loaded.
        """
        async with self.hold(target, timings) as digest:
            with timings.measure("load"):
                await self.load(digest)
            yield digest

    @asynccontextmanager
    async def hold(self, target: Stored | Planned, timings: Timings) -> AsyncIterator[str]:
        """Yield the digest that stands for `target`, on disk and leased.

        Raises:
            merge.errors.MergeError, BuildTimeout, BuildFailed, StoreFull: no artifact.
            ArtifactGone: it was and cannot be again.
        """
        for _ in range(_ATTEMPTS):
            with timings.measure("merge" if isinstance(target, Planned) else "load"):
                digest = await self._on_disk(target)
            async with self._leases.hold(digest):
                if not self._artifacts.touch(digest):
                    continue  # removed between the build and the lease
                yield digest
                return
        raise ArtifactGone(digest)

    async def load(self, digest: str) -> None:
        """Put `digest` into the engine unless it is there; one load at a time for all who ask."""
        if (self._engine.generation, digest) in self._loaded:
            return
        task = self._loading.get(digest)
        if task is None:
            task = asyncio.create_task(self._load(digest), name=f"load {digest[:12]}")
            self._loading[digest] = task
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        await asyncio.shield(task)

    def forget(self, digest: str) -> None:
        """Note that the engine does not have `digest` (any more)."""
        self._loaded = {(number, name) for number, name in self._loaded if name != digest}

    async def _load(self, digest: str) -> None:
        generation = self._engine.generation
        # A lease of its own: whoever asked may leave while the engine still loads.
        async with self._leases.hold(digest):
            with self._metrics.loading():
                await self._engine.load(digest)
        # Entries of dead generations would pile up; only the current one can be asked for.
        self._loaded = {entry for entry in self._loaded if entry[0] == generation}
        self._loaded.add((generation, digest))

    async def _on_disk(self, target: Stored | Planned) -> str:
        if isinstance(target, Planned):
            return await self._built(target.recipe)
        if not self._artifacts.has(target.digest):
            await self._restore(target)
        return target.digest

    async def _built(self, recipe: Recipe) -> str:
        digest = await asyncio.to_thread(self._built_before, recipe)
        if digest is not None and self._artifacts.has(digest):
            self._metrics.merge_hit()
            return digest
        return await self._builder.build(recipe)

    def _built_before(self, recipe: Recipe) -> str | None:
        # The digest of a recipe with a weight for each of thousands of modules takes milliseconds.
        return self._registry.compositions.artifact_of(recipe.digest())

    async def _restore(self, target: Stored) -> None:
        """Bring back files that were removed to save space."""
        if target.recipe is None:
            with storage_errors():
                await asyncio.to_thread(self._artifacts.stage, target.digest, self._versions)
        elif await self._builder.build(target.recipe) != target.digest:
            raise ArtifactGone(target.digest)
