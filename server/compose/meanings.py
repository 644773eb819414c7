"""What `model` fields mean, remembered for as long as nothing in the registry changes.

Most requests name what a request before them named. Such an answer needs no thread and no query
but one number: that of the registry's changes, which every gateway of a database counts together.
So a moved alias changes the very next request, wherever it was moved.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from registry.callers import Caller
from registry.storage.errors import DatabaseUnavailable
from server.compose.resolve import LARGE_COMPOSITION, Resolver, Target
from server.compose.retrieve import is_retrieval
from server.pools import Pools

_KEPT = 4096
# The text, the `composition` object, and the namespace that says what their sender sees.
_Key: TypeAlias = tuple[str, bytes | None, str | None]


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a text means at one number of changes."""

    target: Target
    number: int


class Meanings:
    """Resolves `model` fields for requests. Use it on one event loop."""

    def __init__(self, resolver: Resolver, pools: Pools) -> None:
        self._resolver, self._pools = resolver, pools
        self._changes = resolver.registry.changes
        self._known: OrderedDict[_Key, _Meaning] = OrderedDict()

    async def of(
        self, model: str, prompt: str, caller: Caller, composition: bytes | None = None
    ) -> Target:
        """Return what `model` means for `caller` now.

        Args:
            model: the `model` field.
            prompt: the text that a retrieval searches by.
            caller: the caller.
            composition: the `composition` object, as JSON, beside which `model` is "" or a base.

        Raises:
            PoolFull: too many others are being resolved.
            Others: as `Resolver.resolve`.
        """
        if composition is None and is_retrieval(model):
            search = self._pools.search  # which may take long, so it has threads of its own
            return await search.run(self._resolver.resolve, model, prompt, caller=caller)
        key = (model, composition, caller.namespace)
        known = self._known.get(key)
        if known is not None and known.number == await self._number():
            self._known.move_to_end(key)
            self._resolver.confirm(model, composition, known.target, caller=caller)
            return known.target
        meaning = await self._pools.resolve.run(self._resolve, model, composition, caller)
        if composition is None or len(composition) <= LARGE_COMPOSITION:
            self._remember(key, meaning)
        return meaning.target

    async def _number(self) -> int | None:
        """Return the number of changes, or None if the database cannot tell now."""
        number = self._changes.glance()
        if number is not None:
            return number
        try:
            return await self._pools.resolve.run(self._changes.read)
        except DatabaseUnavailable:
            return None

    def _resolve(self, model: str, composition: bytes | None, caller: Caller) -> _Meaning:
        # Before the answer is read: a change in between makes it out of date, and not too new.
        try:
            number = self._changes.read()
        except DatabaseUnavailable:
            number = -1
        target = self._resolver.resolve(model, composition=composition, caller=caller)
        return _Meaning(target, number)

    def _remember(self, key: _Key, meaning: _Meaning) -> None:
        if meaning.number < 0:
            return
        self._known[key] = meaning
        self._known.move_to_end(key)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
