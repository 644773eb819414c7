"""`/registry/garbage`: the files that nobody needs, shown, and removed beside running requests."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from registry.database import Database
from registry.upkeep import Collected
from server.admin.schemas import GarbageItem, GarbageReport
from server.artifacts.collect import GRACE_DAYS, collect, collector_of
from server.auth import Operator
from server.gateway import Gateway

_GraceDays = Annotated[
    float,
    Query(ge=0, le=36500, description="keep what was retired or used within so many days"),
]


def garbage_router(gateway: Gateway) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/garbage", tags=["garbage"])
    database = Database(gateway.settings.database)

    @router.get("")
    async def show_garbage(_: Operator, grace_days: _GraceDays = GRACE_DAYS) -> GarbageReport:
        """List the files that can go, none younger than an hour; nothing is changed."""
        collector = collector_of(database, gateway.settings, grace_days=grace_days)
        planned = await asyncio.to_thread(collector.plan)
        return _report([Collected(garbage, removed=False) for garbage in planned])

    @router.post("/collect")
    async def collect_garbage(
        caller: Operator, grace_days: _GraceDays = GRACE_DAYS
    ) -> GarbageReport:
        """Remove what can go; what requests or the engine hold stays."""
        collector = collector_of(database, gateway.settings, grace_days=grace_days)
        planned = await asyncio.to_thread(collector.plan)
        done = await collect(collector, gateway.evictor, planned)
        await asyncio.to_thread(collector.sweep)
        report = _report(done)
        await asyncio.to_thread(
            gateway.registry.audit.note, caller.name, "garbage.collected", "garbage",
            removed=sum(item.removed for item in done), bytes=report.bytes_removed,
        )  # fmt: skip
        return report

    return router


def _report(done: Sequence[Collected]) -> GarbageReport:
    return GarbageReport(
        items=[
            GarbageItem(
                store=item.garbage.store, digest=item.garbage.digest, bytes=item.garbage.bytes,
                idle_seconds=item.garbage.idle_seconds, reason=item.garbage.reason,
                removed=item.removed,
            )
            for item in done
        ],
        bytes_removed=sum(item.garbage.bytes for item in done if item.removed),
    )  # fmt: skip
