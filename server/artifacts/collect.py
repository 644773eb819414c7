"""Garbage collection beside a running gateway: artifacts by the evictor, versions directly.

Not covered: what is garbage (`registry.upkeep.garbage`).
"""

import asyncio
import logging
from collections.abc import Iterable

from registry.storage.database import Database
from registry.upkeep.garbage import DAY_SECONDS, Collected, Collector, Garbage, KeepRules
from registry.upkeep.retention import Pruned, RetentionRules, prune
from server.artifacts.evict import Evictor
from server.artifacts.leases import LeaseBusy
from server.engine.protocol import EngineError
from server.settings import Settings
from server.stores import collected_stores

GRACE_DAYS = 7.0
_log = logging.getLogger("weft.artifacts")


def collector_of(
    database: Database,
    settings: Settings,
    *,
    grace_days: float = GRACE_DAYS,
    budget_bytes: int | None = None,
) -> Collector:
    """Return the collector of the stores that the settings name.

    Args:
        database: the registry's.
        settings: name the folders and the budget.
        grace_days: see `KeepRules.grace_seconds`.
        budget_bytes: of artifacts; None uses the settings' budget, of the object store if there is
            one.

    Raises:
        registry.errors.RegistryError: the object store cannot be opened.
    """
    stored = (
        settings.artifact_budget_bytes if settings.store is None else settings.store_budget_bytes
    )
    budget = stored if budget_bytes is None else budget_bytes
    rules = KeepRules(grace_seconds=grace_days * DAY_SECONDS, artifact_budget_bytes=budget)
    return Collector(database, *collected_stores(settings), rules)


def prune_rows(database: Database, settings: Settings) -> Pruned:
    """Remove the rows that are older than the settings say. Blocking.

    Raises:
        registry.errors.DatabaseUnavailable, StoreUnavailable, OSError: the database or the store
            cannot be used.
    """
    _, artifacts = collected_stores(settings)
    rules = RetentionRules(settings.events_days, settings.recipes_days, settings.audit_days)
    return prune(database, rules, artifacts.folders())


async def collect(
    collector: Collector, evictor: Evictor | None, planned: Iterable[Garbage]
) -> tuple[Collected, ...]:
    """Remove planned garbage: artifacts only once no request uses them and the engine dropped them.

    Entries in use stay, and are in the next plan. `evictor` is None where artifacts are in an
    object store: requests use the copies of their own machine.

    Raises:
        registry.errors.DatabaseUnavailable, OSError: as `Collector.collect`.
    """
    planned = tuple(planned)
    if evictor is None:
        return await asyncio.to_thread(collector.collect, planned)
    versions = [garbage for garbage in planned if garbage.store == "versions"]
    done = list(await asyncio.to_thread(collector.collect, versions))
    plan = await asyncio.to_thread(collector.plan)
    still = {garbage.digest for garbage in plan if garbage.store == "artifacts"}
    for garbage in planned:
        if garbage.store == "artifacts":
            removed = garbage.digest in still and await _removed(evictor, garbage.digest)
            done.append(Collected(garbage, removed))
    return tuple(done)


async def _removed(evictor: Evictor, digest: str) -> bool:
    try:
        await evictor.remove(digest, wait_seconds=0)
    except (LeaseBusy, EngineError) as error:
        _log.info("kept %s: %s", digest[:12], error)
        return False
    return True
