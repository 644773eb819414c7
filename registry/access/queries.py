"""The statements behind keys, evaluations and the audit log.

Reads take a `ReadSession`, writes a `WriteSession`; none commits. What belongs to a
namespace is found for those callers only whose rights reach it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Select, or_, select, update

from registry.access.visibility import caller_of
from registry.storage.database import ReadSession, WriteSession
from registry.storage.models import ApiKeyRow, AuditRow, EvaluationRow

# Keys -------------------------------------------------------------------------------------------


def _keys(session: ReadSession) -> Select[ApiKeyRow]:
    namespace = caller_of(session).namespace
    query = select(ApiKeyRow)
    return query if namespace is None else query.where(ApiKeyRow.namespace == namespace)


def key(session: ReadSession, name: str) -> ApiKeyRow | None:
    """Return a key by its name, revoked or not."""
    return session.scalar(_keys(session).where(ApiKeyRow.name == name).with_for_update())


def keys(session: ReadSession, after: str, limit: int) -> Sequence[ApiKeyRow]:
    """Return keys by name, those after one."""
    query = _keys(session).where(ApiKeyRow.name > after).order_by(ApiKeyRow.name)
    return session.scalars(query.limit(limit)).all()


def any_key(session: ReadSession) -> bool:
    """Say whether there is a key, revoked or not."""
    return session.scalar(select(ApiKeyRow.id).limit(1)) is not None


def key_by_digest(session: ReadSession, digest: str) -> ApiKeyRow | None:
    """Return the key that has this SHA-256."""
    return session.scalar(select(ApiKeyRow).where(ApiKeyRow.digest == digest))


def note_use(
    session: WriteSession, names: Iterable[str], moment: datetime, before: datetime
) -> None:
    """Set the last use of keys that were last used before a moment, or never."""
    row = ApiKeyRow
    stale = or_(row.last_used_at.is_(None), row.last_used_at < before)
    change = update(row).where(row.name.in_(list(names)), stale)
    session.execute(change.values(last_used_at=moment))


# Evaluations ------------------------------------------------------------------------------------


def evaluations(
    session: ReadSession, name: str, number: int, after: int | None, limit: int
) -> Sequence[EvaluationRow]:
    """Return the evaluations of a version, newest first, those before one."""
    row = EvaluationRow
    query = select(row).where(row.name == name, row.number == number)
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
    """Return entries, newest first, those before one; `subject` is a whole subject or its name."""
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
