"""Removing artifacts: the safe order, and the byte budget, which callers share fairly.

The safe order is: refuse new leases, wait until none is held, have the engine drop the adapter and
confirm it, then delete the files. When the engine does not answer, the files stay. (The plug-in
also pins the files with hard links of its own, so that not even a deletion by hand takes them away
from the engine.) Engines whose machines have copies of their own, from an object store, keep what
is removed here for the budget alone: each machine decides for itself.
"""

import asyncio
import logging

from server.artifacts.leases import LeaseBusy, Leases
from server.artifacts.provide import Provider
from server.artifacts.store import ArtifactStore
from server.engine.protocol import EngineError
from server.served_bases import ServedBases
from server.telemetry.metrics import Metrics

_log = logging.getLogger("weft.artifacts")


class Evictor:
    """Removes artifacts from the engines and the disk."""

    def __init__(
        self, artifacts: ArtifactStore, bases: ServedBases, leases: Leases, provider: Provider,
        metrics: Metrics, *, budget_bytes: int,
    ) -> None:  # fmt: skip
        self._artifacts, self._bases, self._leases = artifacts, bases, leases
        self._provider, self._metrics, self._budget_bytes = provider, metrics, budget_bytes

    async def remove(self, digest: str, *, wait_seconds: float = 30.0) -> None:
        """Remove one artifact from the engines, from this disk, and from the bucket.

        Raises:
            LeaseBusy, EngineBusy, EngineUnavailable: it is in use or may be, and stays.
            registry.errors.StoreUnavailable: it stays in the bucket.
        """
        async with self._leases.exclusive(digest, wait_seconds=wait_seconds):
            await self._bases.remove(digest)
            self._provider.forget(digest)
            await asyncio.to_thread(self._artifacts.remove, digest)
            self._metrics.evicted()

    async def _evict(self, digest: str) -> None:
        """Remove one artifact from this disk, and from engines that load from it."""
        async with self._leases.exclusive(digest, wait_seconds=0):
            if not self._bases.own_folders:
                await self._bases.remove(digest)
                self._provider.forget(digest)
            await asyncio.to_thread(self._artifacts.delete, digest)
            self._metrics.evicted()

    async def shrink(self, budget_bytes: int | None = None) -> int:
        """Remove artifacts until the store fits, in the order of `Shares`; return bytes freed."""
        budget = self._budget_bytes if budget_bytes is None else budget_bytes
        sizes = await asyncio.to_thread(self._artifacts.sizes)
        self._provider.shares.forget_all_but(sizes)
        size_before, freed = sum(sizes.values()), 0
        if size_before > budget:
            oldest_first = await asyncio.to_thread(self._artifacts.oldest_first)
            stored = [digest for digest in oldest_first if digest in sizes]
            for digest in self._provider.shares.in_order_of_removal(stored, sizes):
                if size_before - freed <= budget:
                    break
                try:
                    await self._evict(digest)
                except (LeaseBusy, EngineError) as error:
                    _log.info("kept %s: %s", digest[:12], error)
                else:
                    freed += sizes[digest]
        self._metrics.artifact_bytes(size_before - freed)
        return freed
