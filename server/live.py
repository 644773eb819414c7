"""The state of a gateway at the moment of a scrape."""

import asyncio

from server.engine.protocol import EngineAdapters, EngineUnavailable
from server.gateway import Gateway
from server.telemetry.live import Live

# A hung engine must not hang the scrape.
_ENGINE_SECONDS = 2.0


async def live_of(gateway: Gateway) -> Live:
    """Return what runs, waits and is resident now."""
    running, waiting = gateway.builder.counts
    fleet = gateway.fleet
    return Live(
        engines=sum(engine.available() for engine in fleet.engines),
        lost_requests=fleet.lost_requests,
        adapters=await _adapters(gateway),
        restarts=sum(max(0, engine.generation - 1) for engine in fleet.engines),
        leases=gateway.leases.total(),
        builds_running=running,
        builds_waiting=waiting,
        body_bytes=gateway.bodies.bytes,
        pools={pool.purpose: (pool.calls, pool.limit) for pool in gateway.pools.all()},
    )


async def _adapters(gateway: Gateway) -> EngineAdapters | None:
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            return await gateway.fleet.adapters()
    except (EngineUnavailable, TimeoutError):
        return None
