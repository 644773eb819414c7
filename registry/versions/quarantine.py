"""Quarantine: a version that was admitted and turned out not to be fit to be served.

A quarantine is of a content, so it holds under every name that has this content, for the digest,
for compositions and artifacts made of it, and for whoever imports it again.
Not covered: what finds a version unfit (the probe, a person), and who may say so.
"""

from registry.access import audit
from registry.callers import LOCAL, Caller
from registry.references import Reference
from registry.storage.database import Database, ReadSession
from registry.storage.models import AdapterVersionRow
from registry.types import Status
from registry.versions import queries
from registry.versions import resolve as resolving

_MAX_REASON = 500


class Statuses:
    """Which versions are quarantined. Safe to share by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def quarantine(
        self, reference: Reference, reason: str, actor: str, *, caller: Caller = LOCAL
    ) -> tuple[str, ...]:
        """Keep a content from being served; the next request for it is refused with `reason`.

        Returns:
            Every `name@number` that has this content, whoever's it is.

        Raises:
            UnknownReference: the reference is no adapter's version that `caller` may know of.
        """
        return self._set(reference, "quarantined", reason.strip()[:_MAX_REASON], actor, caller)

    def release(
        self, reference: Reference, actor: str, *, caller: Caller = LOCAL
    ) -> tuple[str, ...]:
        """Let a content be served again; returns and raises as `quarantine`."""
        return self._set(reference, "admitted", None, actor, caller)

    def _set(
        self, reference: Reference, status: Status, reason: str | None, actor: str, caller: Caller
    ) -> tuple[str, ...]:
        action: audit.Action = (
            "version.quarantined" if status == "quarantined" else "version.released"
        )
        with self._database.transaction(caller) as session:
            rows = queries.with_digest(session, _digest(session, reference))
            if not rows:
                raise resolving.unknown(session, str(reference))
            for row in rows:
                row.status, row.status_reason = status, reason
                audit.record(session, actor, action, f"{row.name}@{row.number}", reason=reason)
            queries.advance_revision(session)
            return tuple(f"{row.name}@{row.number}" for row in rows)


def _digest(session: ReadSession, reference: Reference) -> str:
    """Return the content that a reference means, whatever its status."""
    if reference.name is None:
        row = queries.adapter_version_by_digest(session, str(reference.digest))
    else:
        found = resolving.named(session, reference, reference.name)
        row = found if isinstance(found, AdapterVersionRow) else None
    if row is None:
        raise resolving.unknown(session, str(reference))
    return row.digest
