"""`/registry/garbage`: list unreferenced files, and remove them while requests run."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from registry.storage.database import Database
from server.admin.fields import Cursor, Limit
from server.admin.schemas import CollectedItem, CollectedReport, GarbageItem, PageOf
from server.artifacts.collect import GRACE_DAYS, collect, collector_of, prune_rows
from server.auth import Operator
from server.gateway import Gateway
from server.jobs.retention import remove_job_folders
from server.routing import admin_routes

_GraceDays = Annotated[
    float,
    Query(ge=0, le=36500, description="Keep what was retired or used within this number of days."),
]


def garbage_router(gateway: Gateway) -> APIRouter:
    """Return the routes."""
    router = admin_routes("/garbage", "garbage")
    database = Database(gateway.settings.database)

    @router.get("")
    def list_garbage(
        _: Operator, grace_days: _GraceDays = GRACE_DAYS, cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[GarbageItem]:
        """List the files that can be removed, none younger than an hour. Nothing is changed."""
        collector = collector_of(database, gateway.settings, grace_days=grace_days)
        return PageOf[GarbageItem].of(GarbageItem, collector.page(cursor=cursor, limit=limit))

    @router.post("/collect")
    async def collect_garbage(
        caller: Operator, grace_days: _GraceDays = GRACE_DAYS
    ) -> CollectedReport:
        """Remove unreferenced files, except those in use, and what is past its retention."""
        collector = collector_of(database, gateway.settings, grace_days=grace_days)
        planned = await gateway.pools.files.run(collector.plan)
        evictor = gateway.evictor if gateway.settings.store is None else None
        done = await collect(collector, evictor, planned)
        await gateway.pools.files.run(collector.sweep)
        pruned = await gateway.pools.files.run(prune_rows, database, gateway.settings)
        jobs = await gateway.pools.files.run(remove_job_folders, database, gateway.settings)
        items = [CollectedItem(**asdict(each.garbage), removed=each.removed) for each in done]
        removed = [item for item in items if item.removed]
        size_bytes = sum(item.bytes for item in removed)
        await gateway.pools.admin.run(
            gateway.registry.access.audit.note, caller.name, "garbage.collected", "garbage",
            removed=len(removed), bytes=size_bytes, rows=pruned.total,
            job_folders=jobs,
        )  # fmt: skip
        return CollectedReport(
            items=items, bytes_removed=size_bytes, rows_removed=pruned.total,
            job_folders_removed=jobs,
        )  # fmt: skip

    return router
