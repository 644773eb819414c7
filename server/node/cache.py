"""The adapters on an engine's machine: copies from the object store, within a budget.

The engine loads from the same folder. What it uses stays: the engine removes an adapter before its
files go, and refuses while requests run. Not covered: gateways, which need not know this folder.
"""

import asyncio
import logging
from collections.abc import Sequence

from registry.storage.blobs import LocalBlobs
from registry.storage.bucket import Bucket
from registry.storage.errors import BlobMissing
from server.artifacts.store import storage_errors
from server.engine.protocol import Engine, EngineError, EngineUnavailable
from server.shared_tasks import shared_task

# What was fetched just now is about to be loaded.
_SETTLED_SECONDS = 30.0
_log = logging.getLogger("weft.node")


class NodeCache:
    """Copies of adapters beside one engine. For one event loop.

    Args:
        folder: where the engine loads from.
        buckets: where adapters come from, in the order in which they are asked.
        engine: the engine of this machine.
        budget_bytes: of the folder.
    """

    def __init__(
        self, folder: LocalBlobs, buckets: Sequence[Bucket], engine: Engine, *, budget_bytes: int
    ) -> None:
        self._folder, self._buckets, self._engine = folder, buckets, engine
        self._budget_bytes = budget_bytes
        self._fetching: dict[str, asyncio.Task[None]] = {}

    async def fetch(self, digest: str) -> None:
        """Return once an adapter is in the folder; concurrent calls share a download.

        Raises:
            DigestInvalid: it is no digest.
            BlobMissing: no bucket has it.
            BlobCorrupt: a bucket has other bytes; the folder is unchanged.
            StoreUnavailable: the object store cannot be asked.
            StoreFull, StoreBroken: the disk is full or gone.
        """
        if self._folder.touch(digest):
            return
        task = self._fetching.get(digest)
        if task is None:
            task = shared_task(self._download(digest), name=f"fetch {digest[:12]}")
            self._fetching[digest] = task
            task.add_done_callback(lambda _: self._fetching.pop(digest, None))
        await asyncio.shield(task)

    async def _download(self, digest: str) -> None:
        with storage_errors("the adapter"):
            await asyncio.to_thread(self._fetch, digest)

    def _fetch(self, digest: str) -> None:
        for bucket in self._buckets:
            try:
                bucket.fetch(digest, self._folder)
            except BlobMissing:
                continue
            return
        raise BlobMissing(digest)

    async def shrink(self) -> int:
        """Remove adapters until the folder fits its budget; return the bytes that were freed.

        Those that the engine does not have in memory go first, the least recently fetched before
        others. While the engine does not answer nothing goes.

        Raises:
            OSError: the disk is gone.
        """
        used = await asyncio.to_thread(self._used)
        excess = sum(nbytes for _, nbytes in used.values()) - self._budget_bytes
        if excess <= 0:
            return 0
        try:
            resident = (await self._engine.adapters()).resident
        except EngineUnavailable:
            return 0
        freed = 0
        for digest in sorted(used, key=lambda digest: (digest in resident, used[digest][0])):
            if freed >= excess:
                break
            if await self._removed(digest):
                freed += used[digest][1]
        return freed

    def _used(self) -> dict[str, tuple[float, int]]:
        """Return the last use (Unix time) and the bytes of every adapter in the folder."""
        used_at, size = self._folder.used_at, self._folder.size
        return {digest: (used_at(digest), size(digest)) for digest in self._folder.digests()}

    async def _removed(self, digest: str) -> bool:
        try:
            await self._engine.remove(digest)
        except EngineError as error:
            _log.info("kept %s: %s", digest[:12], error)
            return False
        discard = self._folder.discard
        return await asyncio.to_thread(discard, digest, idle_seconds=_SETTLED_SECONDS)
