"""`GET /registry/engines`: what is loaded where, what is built, and what requests found there.

Figures are of this gateway, but for residency, which is the engines' own. A caller is told of the
adapters that it sees and of its own builds, and how many others there are.
"""

from collections.abc import Mapping
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from registry.callers import Caller
from server.artifacts.build import BuildInFlight
from server.auth import Reader
from server.gateway import Gateway
from server.residency import EngineState, Residency
from server.routing import admin_routes


class ResidentItem(BaseModel):
    """An adapter in an engine's memory; a merge that was not saved has no models."""

    digest: str = Field(examples=["a0" * 32])
    models: list[str] = Field(examples=[["legal@2"]])
    running: int = Field(examples=[1], description="Requests of this gateway that it answers.")
    leases: int = Field(examples=[1], description="Requests of this gateway that hold its files.")


class EngineItem(BaseModel):
    """An engine. Its name is told to who administers the server; `hidden` adapters are others'."""

    base: str = Field(examples=["meta-llama/Llama-3.1-8B-Instruct"])
    name: str | None = Field(examples=["http://engine-0:8000"])
    available: bool = Field(examples=[True])
    restarts: int = Field(examples=[0])
    slots: int = Field(examples=[8], description="Adapters that it runs at once.")
    running: int = Field(examples=[3], description="Requests of this gateway.")
    resident: list[ResidentItem]
    hidden: int = Field(examples=[2])


class BuildItem(BaseModel):
    """A merge that requests wait for."""

    recipe: str = Field(examples=["60303ae2" * 8])
    method: str = Field(examples=["lego"])
    state: Literal["waiting", "running"] = Field(examples=["running"])
    seconds: float = Field(examples=[0.8], description="Since it was asked for.")
    waiters: int = Field(examples=[2])
    caller: str = Field(examples=["team/ci"])


class PoolItem(BaseModel):
    """A pool of threads: calls that run or wait, and how many may."""

    pool: str = Field(examples=["search"])
    calls: int = Field(examples=[0])
    limit: int = Field(examples=[34])


class EnginesBody(BaseModel):
    """The engines, the caller's builds, and figures of this gateway since its start."""

    engines: list[EngineItem]
    builds: list[BuildItem]
    builds_running: int = Field(examples=[1])
    builds_waiting: int = Field(examples=[0])
    merge_workers: int = Field(examples=[1])
    leases: int = Field(examples=[3])
    loads: int = Field(examples=[17])
    merge_hits: int = Field(examples=[120])
    merge_misses: int = Field(examples=[9])
    artifact_bytes: int = Field(examples=[123_456_789])
    lost_requests: int = Field(examples=[0])
    pools: list[PoolItem]


def engines_router(gateway: Gateway) -> APIRouter:
    """Return the route."""
    router = admin_routes("", "engines")
    residency, models_of = Residency(gateway.bases), gateway.registry.catalogue.models_of

    @router.get("/engines")
    async def list_engines(caller: Reader) -> EnginesBody:
        """List engines with the adapters in their memory, builds in flight, hits and misses."""
        states = await residency.states()
        digests = frozenset[str]().union(*(state.resident for state in states))
        seen = await gateway.pools.admin.run(models_of, digests, caller=caller)
        leases = gateway.leases.held()
        return _body(gateway, [_engine(state, seen, leases, caller) for state in states], caller)

    return router


def _engine(
    state: EngineState, seen: Mapping[str, tuple[str, ...]], leases: Mapping[str, int],
    caller: Caller,
) -> EngineItem:  # fmt: skip
    running = state.fleet.running_on(state.engine)
    shown = sorted(state.resident & seen.keys())
    return EngineItem(
        base=state.base, name=state.engine.name if caller.operates else None,
        available=state.available, restarts=max(0, state.engine.generation - 1),
        slots=state.fleet.slots, running=sum(running.values()),
        hidden=len(state.resident) - len(shown),
        resident=[
            ResidentItem(
                digest=digest, models=list(seen[digest]), running=running.get(digest, 0),
                leases=leases.get(digest, 0),
            )
            for digest in shown
        ],
    )  # fmt: skip


def _body(gateway: Gateway, engines: list[EngineItem], caller: Caller) -> EnginesBody:
    running, waiting = gateway.builder.counts
    builds, metrics = gateway.builder.in_flight(), gateway.metrics
    return EnginesBody(
        engines=engines,
        builds=[_build(one) for one in builds if caller.operates or _is_own(one, caller)],
        builds_running=running, builds_waiting=waiting,
        merge_workers=gateway.settings.merge_workers, leases=gateway.leases.total(),
        loads=metrics.loads, merge_hits=metrics.hits, merge_misses=metrics.misses,
        artifact_bytes=metrics.stored_bytes,
        lost_requests=sum(base.fleet.lost_requests for base in gateway.bases),
        pools=[
            PoolItem(pool=pool.purpose, calls=pool.calls, limit=pool.limit)
            for pool in gateway.pools.all()
        ],
    )  # fmt: skip


def _is_own(build: BuildInFlight, caller: Caller) -> bool:
    return build.caller.owner == caller.owner


def _build(build: BuildInFlight) -> BuildItem:
    return BuildItem(
        recipe=build.recipe, method=build.method, state="running" if build.begun else "waiting",
        seconds=build.seconds, waiters=build.waiters, caller=build.caller.name,
    )  # fmt: skip
