"""Makes a target servable: a digest that is on disk, leased, and loaded into the engine.

The lease is taken before the files are looked for, so that they cannot be removed between the look
and the load.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from registry.callers import LOCAL, Caller
from registry.service import Registry
from registry.storage.blobs import BlobStore
from registry.storage.errors import BlobCorrupt, BlobMissing, DatabaseUnavailable
from server.artifacts.build import Builder, ignore
from server.artifacts.canary import Canary
from server.artifacts.leases import Leases
from server.artifacts.shares import Shares
from server.artifacts.store import ArtifactStore, storage_errors
from server.compose.resolve import Planned, Stored
from server.engine.protocol import Engine, EngineRefused, EngineUnavailable
from server.pools import PoolFull, Pools
from server.served_bases import ServedBases
from server.shared_tasks import shared_task
from server.telemetry import record
from server.telemetry.metrics import Metrics, Timings

_ATTEMPTS = 3
_REMEMBERED = 4096  # recipes, of 130 bytes each
# Another gateway replaces the artifact of a recipe if its files are gone everywhere.
_REMEMBERED_SECONDS = 2.0
_log = logging.getLogger("weft.server")


class ArtifactGone(Exception):
    """The files of an artifact are gone, and its recipe does not give the same digest again."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        super().__init__(
            f"the files of artifact {digest} are gone, and on this machine its recipe gives other "
            "bytes: name the composition instead of the digest"
        )


class _Load(NamedTuple):
    """A load that has succeeded."""

    engine: str
    generation: int
    digest: str


class _Damaged(EngineRefused):
    """The engine refused files that had changed on disk; they are removed."""


@dataclass(frozen=True, slots=True)
class Provided:
    """An adapter that an engine has loaded, for as long as a request lasts."""

    digest: str
    engine: Engine


class Provider:
    """Makes targets servable. One instance per gateway."""

    def __init__(
        self, registry: Registry, versions: BlobStore, artifacts: ArtifactStore, builder: Builder,
        bases: ServedBases, leases: Leases, metrics: Metrics, pools: Pools,
        canary: Canary | None = None,
    ) -> None:  # fmt: skip
        self._registry, self._versions, self._artifacts = registry, versions, artifacts
        self._pools, self._canary = pools, canary
        self._builder, self._bases, self._leases, self._metrics = builder, bases, leases, metrics
        # Replaced, never changed: a request keeps that of its start.
        self._loaded: frozenset[_Load] = frozenset()
        self.shares = Shares()
        # Recipe -> artifact, and when it was read, by the loop's clock.
        self._made: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._loading: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._fetching: dict[str, asyncio.Task[bool]] = {}

    def loaded(self, engine: Engine) -> frozenset[str]:
        """Return the digests that were loaded into an engine since its start."""
        name, generation = engine.name, engine.generation
        return frozenset(load.digest for load in self._loaded if load[:2] == (name, generation))

    @asynccontextmanager
    async def provide(
        self, target: Stored | Planned, timings: Timings, *, caller: Caller = LOCAL
    ) -> AsyncIterator[Provided]:
        """Yield the digest that answers for `target`, leased, and an engine that has loaded it.

        Raises:
            merge.errors.MergeError and others: as `hold`.
            EngineRefused, EngineUnavailable: it is not loaded.
            CanaryFailed, CanaryUnanswered: as `vouch`.
        """
        loaded_before, fleet = self._loaded, self._bases[target.base].fleet
        for attempt in range(_ATTEMPTS):
            async with AsyncExitStack() as stack:
                holding = self.hold(target, timings, caller=caller, ahead=True)
                digest = await stack.enter_async_context(holding)
                engine = stack.enter_context(fleet.at(digest))
                timings.new_slot = _load(engine, digest) not in loaded_before
                try:
                    with timings.measure("load"):
                        await self.load(digest, engine)
                        await self.vouch(digest, target.base)
                except _Damaged:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    continue  # its files are made again
                if timings.new_slot:
                    kind = "composition" if isinstance(target, Planned) else "stored"
                    self._metrics.slot_taken(kind, self._artifacts.size(digest))
                yield Provided(digest, engine)
                return

    @asynccontextmanager
    async def hold(
        self, target: Stored | Planned, timings: Timings, *, caller: Caller = LOCAL,
        ahead: bool = False,
    ) -> AsyncIterator[str]:  # fmt: skip
        """Yield the digest of `target`, on disk and leased.

        Args:
            target: what to hold.
            timings: of the request.
            caller: who asks; builds and the disk's space are shared fairly among callers.
            ahead: whether the engine loads what is built while the registry records it.

        Raises:
            merge.errors.MergeError, StoreFull, and what else `Builder.build` raises: not built.
            ArtifactGone: its files are gone and cannot be built again.
            registry.errors.StoreUnavailable: its files may be in the bucket, which is gone.
        """
        record.note(kind=target.recipe.method if isinstance(target, Planned) else "stored")
        known = target.digest if isinstance(target, Stored) else None
        for _ in range(_ATTEMPTS):
            async with AsyncExitStack() as leases:
                if known is not None:
                    await leases.enter_async_context(self._leases.hold(known))
                with timings.measure("merge" if isinstance(target, Planned) else "load"):
                    digest = await self._on_disk(target, caller, ahead=ahead)
                if digest != known:
                    await leases.enter_async_context(self._leases.hold(digest))
                if self._artifacts.touch(digest):
                    self.shares.add(digest, caller.owner)
                    yield digest
                    return
                known = digest  # it was removed between the build and the lease
        raise ArtifactGone(digest)

    async def load(self, digest: str, engine: Engine) -> None:
        """Load `digest` into an engine unless it is loaded; concurrent calls share one load."""
        if _load(engine, digest) not in self._loaded:
            await asyncio.shield(self._load_soon(digest, engine))

    async def vouch(self, digest: str, base: str) -> None:
        """Return once the operator's canary lets `digest` be served, if there is one.

        Args:
            digest: an adapter's.
            base: the name of its base in the registry.

        Raises:
            CanaryFailed, CanaryUnanswered, EngineUnavailable: see `Canary.check`.
        """
        if self._canary is not None:
            await self._canary.check(digest, self._bases[base].fleet, self.load)

    def forget(self, digest: str, engine: Engine | None = None) -> None:
        """Note that an engine, or none of them, has `digest`."""
        self._loaded = frozenset(
            load for load in self._loaded
            if load.digest != digest or (engine is not None and load.engine != engine.name)
        )  # fmt: skip

    def _load_soon(self, digest: str, engine: Engine) -> asyncio.Task[None]:
        key = (engine.name, digest)
        task = self._loading.get(key)
        if task is None:
            for base in self._bases:
                base.fleet.note_loading(engine, digest)
            task = shared_task(self._load(digest, engine), name=f"load {digest[:12]}")
            self._loading[key] = task
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return task

    def _load_ahead(self, base: str, digest: str) -> None:
        with suppress(EngineUnavailable), self._bases[base].fleet.at(digest) as engine:
            if _load(engine, digest) not in self._loaded:
                self._load_soon(digest, engine)

    async def _load(self, digest: str, engine: Engine) -> None:
        load = _load(engine, digest)
        # A lease of its own: the request may end while the engine still loads.
        async with self._leases.hold(digest):
            try:
                with self._metrics.loading():
                    await engine.load(digest)
            except EngineRefused as error:
                if await self._pools.files.run(self._discard_damaged, digest):
                    raise _Damaged(digest, error.reason) from error
                # An engine on another machine has its files from the bucket.
                if not await self._pools.store.run(self._artifacts.share_again, digest):
                    raise
                await engine.load(digest)
        # Those of earlier generations are never looked up again; they would pile up.
        current = self._bases.generations()
        self._loaded = frozenset(
            {load, *(old for old in self._loaded if current.get(old.engine) == old.generation)}
        )

    def _discard_damaged(self, digest: str) -> bool:
        """Remove files that do not match their digest; return whether there were such."""
        try:
            self._artifacts.verify(digest)
        except (BlobCorrupt, BlobMissing) as error:
            _log.error("a merged adapter is damaged and is made again: %s", error)
            self._artifacts.delete(digest)
            return True
        return False

    async def _on_disk(self, target: Stored | Planned, caller: Caller, *, ahead: bool) -> str:
        if isinstance(target, Planned):
            return await self._built(target, caller, ahead=ahead)
        if not self._artifacts.has(target.digest):
            await self._restore(target, caller)
        return target.digest

    async def _found(self, digest: str) -> bool:
        """Return whether an artifact is on disk, fetched from the bucket if it is there.

        Concurrent calls share a fetch.
        """
        if self._artifacts.has(digest):
            return True
        task = self._fetching.get(digest)
        if task is None:
            fetch = self._pools.store.run(self._artifacts.fetch, digest)
            task = shared_task(fetch, name=f"fetch {digest[:12]}")
            self._fetching[digest] = task
            task.add_done_callback(lambda _: self._fetching.pop(digest, None))
        with storage_errors():
            return await asyncio.shield(task)

    async def _built(self, target: Planned, caller: Caller, *, ahead: bool) -> str:
        digest = await self._artifact_of(target.digest)
        if digest is not None and await self._found(digest):
            self._metrics.merge_hit()
        else:
            self._metrics.merge_miss()
            adopted = partial(self._load_ahead, target.base) if ahead else ignore
            digest = await self._builder.build(target.recipe, caller=caller, adopted=adopted)
            self._note_made(target.digest, digest)
        return digest

    async def _artifact_of(self, recipe: str) -> str | None:
        """Return what a recipe gives: its first artifact, which other gateways seldom change."""
        known, read_at = self._made.get(recipe, (None, 0.0))
        age = asyncio.get_running_loop().time() - read_at
        if known is not None and (not self._registry.locks.shared or age < _REMEMBERED_SECONDS):
            return known
        artifact: str | None
        try:
            read = self._registry.compositions.artifact_of
            artifact = await self._pools.resolve.run(read, recipe)
        except (DatabaseUnavailable, PoolFull):
            if known is None:
                raise
            artifact = known
        if artifact is not None:
            self._note_made(recipe, artifact)
        return artifact

    def _note_made(self, recipe: str, artifact: str) -> None:
        self._made[recipe] = artifact, asyncio.get_running_loop().time()
        self._made.move_to_end(recipe)
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)

    async def _restore(self, target: Stored, caller: Caller) -> None:
        """Stage, fetch or build again the files that were evicted."""
        if target.recipe is None:
            with storage_errors():
                await self._pools.store.run(self._artifacts.stage, target.digest, self._versions)
        elif await self._found(target.digest):
            return
        elif await self._builder.build(target.recipe, caller=caller) != target.digest:
            raise ArtifactGone(target.digest)


def _load(engine: Engine, digest: str) -> _Load:
    return _Load(engine.name, engine.generation, digest)
