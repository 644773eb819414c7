"""The bytes of `GET /v1/models`, made once for each namespace and revision of the registry.

Clients poll the list, and a registry may have 100,000 names: nobody makes the same list twice.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from registry.callers import Caller
from server.pools import Pools
from server.shared_tasks import shared_task

_KEPT_BYTES = 64 * 2**20


class ModelList:
    """The list of models by namespace of the caller. Use it on one event loop."""

    def __init__(
        self,
        pools: Pools,
        revision: Callable[[], int],
        cards: Callable[[Caller], Sequence[dict[str, Any]]],
    ) -> None:
        self._pools, self._revision, self._cards = pools, revision, cards
        self._made: OrderedDict[str | None, tuple[int, bytes]] = OrderedDict()
        self._making: dict[tuple[str | None, int], asyncio.Task[bytes]] = {}

    async def body(self, caller: Caller) -> bytes:
        """Return the list that `caller` sees, as JSON; callers of one namespace see the same.

        Raises:
            PoolFull: too many other lists are being made.
            registry.errors.DatabaseUnavailable: the registry cannot be read.
        """
        revision = await self._pools.resolve.run(self._revision)
        made_at, body = self._made.get(caller.namespace, (-1, b""))
        if made_at == revision:
            self._made.move_to_end(caller.namespace)
            return body
        key = (caller.namespace, revision)
        task = self._making.get(key)
        if task is None:
            task = shared_task(self._make(revision, caller), name="list of models")
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key))
        return await asyncio.shield(task)

    async def _make(self, revision: int, caller: Caller) -> bytes:
        body = await self._pools.search.run(self._encoded, caller)
        self._made[caller.namespace] = (revision, body)
        self._made.move_to_end(caller.namespace)
        while len(self._made) > 1 and self._size() > _KEPT_BYTES:
            self._made.popitem(last=False)
        return body

    def _size(self) -> int:
        return sum(len(body) for _, body in self._made.values())

    def _encoded(self, caller: Caller) -> bytes:
        return msgspec.json.encode({"object": "list", "data": self._cards(caller)})
