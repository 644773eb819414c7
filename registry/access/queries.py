"""The queries for keys, evaluations and the audit log.

Reading functions take a `ReadSession`, writing functions a `WriteSession`, and none of them
commits. The queries return only rows of namespaces that the session's caller has rights to.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Select, func, or_, select, update

from registry.access.visibility import caller_of
from registry.storage.database import ReadSession, WriteSession
from registry.storage.models import ApiKeyRow, AuditRow, EvaluationRow

# Keys -------------------------------------------------------------------------------------------


def _keys(session: ReadSession) -> Select[ApiKeyRow]:
    namespace = caller_of(session).namespace
    query = select(ApiKeyRow)
    return query if namespace is None else query.where(ApiKeyRow.namespace == namespace)


def key(session: ReadSession, name: str) -> ApiKeyRow | None:
    """Return a key by its name, revoked or not, or None."""
    return session.scalar(_keys(session).where(ApiKeyRow.name == name).with_for_update())


def keys(session: ReadSession, after: str, limit: int) -> Sequence[ApiKeyRow]:
    """Return the keys after a name, sorted by name."""
    query = _keys(session).where(ApiKeyRow.name > after).order_by(ApiKeyRow.name)
    return session.scalars(query.limit(limit)).all()


def keys_stamp(session: ReadSession) -> tuple[int, int]:
    """Return two numbers; one of them grows with every change of a key, except of its use."""
    query = select(func.count(), func.coalesce(func.sum(ApiKeyRow.revision), 0))
    count, revisions = session.execute(query.select_from(ApiKeyRow)).one()
    return int(count), int(revisions)


def live_keys(session: ReadSession) -> Sequence[ApiKeyRow]:
    """Return every key that is not revoked."""
    return session.scalars(select(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None))).all()


def note_use(
    session: WriteSession, names: Iterable[str], moment: datetime, before: datetime
) -> None:
    """Set the last use of keys that were never used, or not since `before`."""
    row = ApiKeyRow
    stale = or_(row.last_used_at.is_(None), row.last_used_at < before)
    change = update(row).where(row.name.in_(list(names)), stale)
    session.execute(change.values(last_used_at=moment))


# Evaluations ------------------------------------------------------------------------------------


def evaluations(
    session: ReadSession, name: str, number: int | None, after: int | None, limit: int
) -> Sequence[EvaluationRow]:
    """Return the evaluations of a version, or of all, with ids below `after`, newest first."""
    row = EvaluationRow
    query = select(row).where(row.name == name)
    query = query if number is None else query.where(row.number == number)
    query = query if after is None else query.where(row.id < after)
    return session.scalars(query.order_by(row.id.desc()).limit(limit)).all()


# The audit log ----------------------------------------------------------------------------------


def audit(
    session: ReadSession,
    actor: str | None,
    action: str | None,
    subject: str | None,
    after: int | None,
    limit: int,
) -> Sequence[AuditRow]:
    """Return audit entries with ids below `after`, newest first.

    `subject` is a complete subject, or the name in a subject of the form `name@number`.
    """
    row, namespace = AuditRow, caller_of(session).namespace
    query = select(row)
    if namespace is not None:
        query = query.where(row.namespace == namespace)
    if actor is not None:
        query = query.where(row.actor == actor)
    if action is not None:
        query = query.where(row.action == action)
    if subject is not None:
        version = row.subject.startswith(f"{subject}@", autoescape=True)
        query = query.where(or_(row.subject == subject, version))
    query = query if after is None else query.where(row.id < after)
    return session.scalars(query.order_by(row.id.desc()).limit(limit)).all()


# Actions on adapters and compositions; keys and others may have the same names.
_OF_NAMES = (
    "adapter.", "alias.", "composition.", "evaluation.", "examples.", "tags.", "version.",
    "visibility.",
)  # fmt: skip


def changes_of(
    session: ReadSession, name: str, before: int | None, limit: int
) -> Sequence[AuditRow]:
    """Return the entries of an adapter or a composition with ids below `before`, newest first.

    The caller of the session must see the name.
    """
    row = AuditRow
    version = row.subject.startswith(f"{name}@", autoescape=True)
    query = select(row).where(or_(row.subject == name, version))
    query = query.where(or_(*(row.action.startswith(prefix) for prefix in _OF_NAMES)))
    query = query if before is None else query.where(row.id < before)
    return session.scalars(query.order_by(row.id.desc()).limit(limit)).all()
