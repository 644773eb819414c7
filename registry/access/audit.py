"""Who changed what: one row per change, written in the transaction of the change itself.

    adapter.registered   alias.moved            artifact.removed   base.added
    composition.added    evaluation.recorded    examples.changed   file.added
    file.removed         garbage.collected      job.cancelled      job.created
    job.finished         job.published          key.created        key.revoked
    tags.changed         version.quarantined    version.released   version.retired
    visibility.changed

Not covered: what serving does by itself (merges, loads, removals that keep a budget).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from registry.access import queries as access_queries
from registry.callers import LOCAL, Caller, namespace_of
from registry.paging import Page, key_of, paged
from registry.storage.database import Database, WriteSession
from registry.storage.models import AuditRow
from registry.storage.values import value_of
from registry.types import Action

_OWNED = ("file.", "job.", "key.")  # what is in a namespace although its name does not say so


def record(session: WriteSession, actor: str, action: Action, subject: str, **detail: Any) -> None:
    """Write a change down.

    Args:
        session: the one that makes the change.
        actor: who makes it.
        action: what it is.
        subject: a reference, the name of a base or a key, or the id of a file or a job.
        detail: JSON values that say more; of a key, a file or a job also its `namespace`.
    """
    namespace = detail.get("namespace") if action.startswith(_OWNED) else namespace_of(subject)
    if action == "base.added":
        namespace = None  # owner/name, as on the Hub, is no namespace here
    session.add(
        AuditRow(
            at=datetime.now(UTC), actor=actor, action=action, subject=subject,
            namespace=namespace, detail=detail,
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]


class Audit:
    """The log of changes. Safe to share by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, actor: str, action: Action, subject: str, **detail: Any) -> None:
        """Write down a change that was made outside of the database."""
        with self._database.transaction() as session:
            record(session, actor, action, subject, **detail)

    def page(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        caller: Caller = LOCAL,
    ) -> Page[Change]:
        """Return changes, newest first; those of the caller's namespace when it has one.

        Args:
            actor: only what this one did.
            action: only changes of this kind.
            subject: only changes of this reference or name, or of any version of the name.
            cursor: where the page before ended.
            limit: how many.
            caller: who asks.

        Raises:
            CursorInvalid: it is not one of this list's.
        """
        before = key_of("audit", cursor, int)
        with self._database.read(caller) as session:
            found = access_queries.audit(session, actor, action, subject, before, limit + 1)
            return paged("audit", found, limit, lambda row: row.id, partial(value_of, Change))
