"""The audit log. Each change adds one row, in the transaction of the change.

The log has these actions:

    adapter.registered   alias.moved            artifact.removed   base.added
    composition.added    evaluation.recorded    examples.changed   file.added
    file.removed         garbage.collected      job.cancelled      job.created
    job.finished         job.published          key.created        key.limited
    key.revoked          policy.added           policy.removed     tags.changed
    version.quarantined
    version.released     version.retired        visibility.changed

The log does not contain the operations of serving: merges, loads and evictions.
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

_OWNED = ("file.", "job.", "key.")  # actions whose namespace is in `detail`


def record(session: WriteSession, actor: str, action: Action, subject: str, **detail: Any) -> None:
    """Add a change to the log.

    Args:
        session: the session that makes the change.
        actor: the name of the caller that makes the change.
        action: the action.
        subject: a reference, the name of a base or a key, or the id of a file or a job.
        detail: further JSON values; for a key, a file or a job they contain its `namespace`.
    """
    namespace = detail.get("namespace") if action.startswith(_OWNED) else namespace_of(subject)
    if action == "base.added":
        namespace = None  # the owner in owner/name is not a namespace
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
    """The audit log. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, actor: str, action: Action, subject: str, **detail: Any) -> None:
        """Record a change that was made outside the database."""
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
        """Return changes, newest first, restricted to the caller's namespace if it has one.

        Args:
            actor: return only changes by this actor.
            action: return only changes with this action.
            subject: return only changes of this reference or name, or of a version of the name.
            cursor: the `next_cursor` of the previous page.
            limit: the maximal number of changes.
            caller: the caller whose rights apply.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
        """
        before = key_of("audit", cursor, int)
        with self._database.read(caller) as session:
            changes = access_queries.audit(session, actor, action, subject, before, limit + 1)
            return paged("audit", changes, limit, lambda row: row.id, partial(value_of, Change))
