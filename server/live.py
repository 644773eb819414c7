"""The state of a gateway at the moment of a scrape."""

import asyncio

from server.engine.fleet import Fleet
from server.engine.protocol import EngineAdapters, EngineUnavailable, together
from server.gateway import Gateway
from server.telemetry.live import Live

# A hung engine must not hang the scrape.
_ENGINE_SECONDS = 2.0


async def live_of(gateway: Gateway) -> Live:
    """Return what runs, waits and is resident now."""
    running, waiting = gateway.builder.counts
    fleets = [base.fleet for base in gateway.bases]
    adapters = await asyncio.gather(*map(_adapters, fleets))
    engines = [engine for fleet in fleets for engine in fleet.engines]
    return Live(
        engines=sum(engine.available() for engine in engines),
        lost_requests=sum(fleet.lost_requests for fleet in fleets),
        up=None not in adapters,
        adapters=together(part for part in adapters if part is not None),
        restarts=sum(max(0, engine.generation - 1) for engine in engines),
        leases=gateway.leases.total(),
        builds_running=running,
        builds_waiting=waiting,
        body_bytes=gateway.bodies.bytes,
        pools={pool.purpose: (pool.calls, pool.limit) for pool in gateway.pools.all()},
    )


async def _adapters(fleet: Fleet) -> EngineAdapters | None:
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            return await fleet.adapters()
    except (EngineUnavailable, TimeoutError):
        return None
