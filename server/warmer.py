"""Loads adapters into engines before requests need them: when the gateway or an engine starts.

First what every alias `prod` means, the last moved first, and then what was used last, until each
engine has as many adapters as settings say, whoever asked for them. Each load waits until no
request uses an adapter and nothing is merged. A failure is a line in the log. Not covered: adapters
that a client asks to be warmed (`server.admin.warming`).
"""

import asyncio
import logging

from server.compose.resolve import Bare, Stored
from server.engine.protocol import Engine, EngineUnavailable
from server.gateway import Gateway
from server.served_bases import ServedBase
from server.telemetry.metrics import Timings

_ALIAS = "prod"
_POLL_SECONDS = 1.0  # between looks at whether the engine was restarted
_BUSY_SECONDS = 0.2  # between looks at whether requests run
# Adapters that are looked at for each one that may be loaded: some are for another base.
_CANDIDATES = 4
_log = logging.getLogger("weft.server")


class Warmer:
    """Warms the engines of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # By base. More than an engine has slots for would push each other out.
        self._most = {
            base.name: min(base.settings.warm_artifacts, base.settings.max_loras)
            for base in gateway.bases
        }

    async def run(self) -> None:
        """Warm the engines now, and again whenever one was restarted, until cancelled."""
        warmed = dict[str, int]()
        while any(self._most.values()):
            generations = self._gateway.bases.generations()
            if any(warmed.get(name) != number for name, number in generations.items()):
                warmed = generations
                await self.warm()
            await asyncio.sleep(_POLL_SECONDS)

    async def warm(self) -> None:
        """Load what the engines should have. Raises nothing; stops when they are lost."""
        for model in await self._models():
            await self._until_idle()
            if self._all_full():
                return
            try:
                await self._load(model)
            except EngineUnavailable as error:
                _log.warning("the engine is not warmed: %s", error)
                return
            except Exception as error:  # whatever is wrong with it, a request will be told
                _log.warning("%s is not warmed: %s", model, error)

    async def _models(self) -> list[str]:
        """Return references, the most wanted first."""
        gateway = self._gateway
        wanted = (self._most[base.name] * len(base.fleet.engines) for base in gateway.bases)
        most = _CANDIDATES * sum(wanted)
        try:
            aliased = gateway.registry.catalogue.aliased
            released = await gateway.pools.admin.run(aliased, _ALIAS, limit=most)
            used = await asyncio.to_thread(gateway.artifacts.oldest_first)
        except Exception as error:
            _log.warning("the engine is not warmed: %s", error)
            return []
        return [*released, *used[::-1][:most]]

    async def _until_idle(self) -> None:
        while self._gateway.leases.total() or any(self._gateway.builder.counts):
            await asyncio.sleep(_BUSY_SECONDS)

    async def _load(self, model: str) -> None:
        gateway = self._gateway
        target = await gateway.pools.admin.run(gateway.resolver.resolve, model)
        base = gateway.bases[target.base]
        if isinstance(target, Bare) or self._is_full(base):
            return
        if isinstance(target, Stored) and gateway.artifacts.has(target.digest):
            await self._load_at_home(target.digest, base)  # without a new time of its last use
            return
        async with gateway.provider.hold(target, Timings()) as digest:
            await self._load_at_home(digest, base)

    async def _load_at_home(self, digest: str, base: ServedBase) -> None:
        """Load an adapter into the engine that requests will ask for it, unless that is full."""
        with base.fleet.at(digest) as engine:
            if not self._full(engine, base):
                await self._gateway.provider.load(digest, engine)

    def _all_full(self) -> bool:
        return all(map(self._is_full, self._gateway.bases))

    def _is_full(self, base: ServedBase) -> bool:
        engines = [engine for engine in base.fleet.engines if engine.available()]
        return all(self._full(engine, base) for engine in engines)

    def _full(self, engine: Engine, base: ServedBase) -> bool:
        return len(self._gateway.provider.loaded(engine)) >= self._most[base.name]
