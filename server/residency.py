"""What every engine has in memory, asked for at most once a second however many want to know."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from server.engine.fleet import Fleet
from server.engine.protocol import Engine, EngineUnavailable
from server.served_bases import ServedBases
from server.shared_tasks import shared_task

# A hung engine must not hang the answer.
_ENGINE_SECONDS = 2.0
_REMEMBERED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EngineState:
    """An engine of a base at one moment, with what it has in memory."""

    base: str  # its name for clients
    engine: Engine
    fleet: Fleet
    available: bool
    resident: frozenset[str]  # empty if it does not answer


class Residency:
    """Asks the engines of the served bases. Use it on one event loop."""

    def __init__(self, bases: ServedBases) -> None:
        self._bases = bases
        self._asked_at = -_REMEMBERED_SECONDS
        self._asking: asyncio.Task[Sequence[EngineState]] | None = None

    async def states(self) -> Sequence[EngineState]:
        """Return the state of every engine as of at most a second ago."""
        now = time.monotonic()
        if self._asking is None or now >= self._asked_at + _REMEMBERED_SECONDS:
            self._asked_at = now
            self._asking = shared_task(self._ask(), name="ask engines")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Sequence[EngineState]:
        asked = [
            _state(base.served_name, engine, base.fleet)
            for base in self._bases
            for engine in base.fleet.engines
        ]
        return await asyncio.gather(*asked)


async def _state(base: str, engine: Engine, fleet: Fleet) -> EngineState:
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            resident = (await engine.adapters()).resident
    except (EngineUnavailable, TimeoutError):
        resident = frozenset()
    return EngineState(base, engine, fleet, engine.available(), resident)
