"""Removing old rows: entries of job logs, recipes that nothing uses, entries of the audit log.

Nothing is removed unless a rule says so. Rows are removed in small transactions, so that no writer
waits for long; a run that is interrupted is continued by the next. The log of a job that has not
ended stays, and so does a recipe that a composition or a version was made by, that is an ingredient
of another, or whose artifact is on disk. Lineage stays: what was made of a content remains known.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry.storage.columns import now
from registry.storage.database import Database, WriteSession
from registry.upkeep import retention_queries as queries

BATCH = 500


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """The days that rows stay: of logs after a job's end, of others after they were made.

    None keeps them for good.
    """

    events_days: float | None = None
    recipes_days: float | None = None
    audit_days: float | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """The number of rows that were removed."""

    events: int = 0
    recipes: int = 0
    audit: int = 0

    @property
    def total(self) -> int:
        """The number of all of them."""
        return self.events + self.recipes + self.audit


def prune(database: Database, rules: RetentionRules, on_disk: Collection[str]) -> Pruned:
    """Remove the rows that are older than the rules say.

    Args:
        database: the database, which others may use meanwhile.
        rules: what to remove.
        on_disk: the digests of the artifacts whose files are in the store.

    Raises:
        DatabaseUnavailable: the database is not writable; earlier batches remain removed.
    """

    def recipes(session: WriteSession, before: datetime, limit: int) -> int:
        return queries.remove_recipes(session, before, on_disk, limit)

    return Pruned(
        events=_removed(database, rules.events_days, queries.remove_events),
        recipes=_removed(database, rules.recipes_days, recipes),
        audit=_removed(database, rules.audit_days, queries.remove_audit),
    )


def ended_jobs(database: Database, days: float, some: Collection[str]) -> tuple[str, ...]:
    """Return which of some jobs, by id, ended longer ago than so many days.

    Raises:
        DatabaseUnavailable: the database is unreadable.
    """
    ids, ended = sorted(some), list[str]()
    for start in range(0, len(ids), BATCH):
        with database.read() as session:
            before = now() - timedelta(days=days)
            ended += queries.ended_jobs(session, before, ids[start : start + BATCH])
    return tuple(ended)


def _removed(
    database: Database,
    days: float | None,
    remove: Callable[[WriteSession, datetime, int], int],
) -> int:
    """Remove batches of rows until none is left, and return their number."""
    total, removed = 0, BATCH
    while days is not None and removed == BATCH:
        with database.transaction() as session:
            removed = remove(session, now() - timedelta(days=days), BATCH)
        total += removed
    return total
