"""The queries for usage, and for the secrets of the registry. None of them commits."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, and_, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from registry.access.visibility import caller_of
from registry.storage.columns import Table
from registry.storage.database import ReadSession, WriteSession
from registry.storage.usage_models import SecretRow, UsageDayRow, UsageMinuteRow


def secret(session: ReadSession, name: str) -> bytes | None:
    """Return a secret by its name, or None."""
    return session.scalar(select(SecretRow.value).where(SecretRow.name == name))


def add_to_day(
    session: WriteSession, day: str, key: str, namespace: str | None, counts: Mapping[str, float]
) -> None:
    """Add to what a key used on a day."""
    _add(session, UsageDayRow, {"day": day, "key": key}, counts, {"namespace": namespace})


def add_to_minute(
    session: WriteSession, minute: int, key: str, counts: Mapping[str, float]
) -> None:
    """Add to what a key used in a minute."""
    _add(session, UsageMinuteRow, {"minute": minute, "key": key}, counts, {})


def _add(
    session: WriteSession, row: type[Table], place: Mapping[str, Any],
    counts: Mapping[str, float], replaced: Mapping[str, Any],
) -> None:  # fmt: skip
    """Insert a row, or add `counts` to the row that has this primary key."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    added = dialect.insert(row).values(**place, **counts, **replaced)
    sums = {name: getattr(row, name) + added.excluded[name] for name in counts}
    session.execute(added.on_conflict_do_update(index_elements=[*place], set_=sums | {**replaced}))


def minutes(session: ReadSession, since: int) -> Sequence[Row[int, str, int, int, int, int, float]]:
    """Return what keys used in each minute from `since` on: minute, key, then the counts."""
    row = UsageMinuteRow
    tokens = row.prompt_tokens, row.completion_tokens
    counts = row.requests, *tokens, row.compositions, row.build_seconds
    return session.execute(select(row.minute, row.key, *counts).where(row.minute >= since)).all()


def remove_minutes(session: WriteSession, before: int) -> None:
    """Remove the rows of minutes before `before`."""
    session.execute(delete(UsageMinuteRow).where(UsageMinuteRow.minute < before))


def days(
    session: ReadSession,
    key: str | None,
    namespace: str | None,
    since: str | None,
    until: str | None,
    after: tuple[str, str] | None,
    limit: int,
) -> Sequence[UsageDayRow]:
    """Return usage by day and key, newest day first.

    An admin sees the keys that it manages, any other caller its own.
    """
    row, caller = UsageDayRow, caller_of(session)
    query = select(row)
    if not caller.has_role("admin"):
        query = query.where(row.key == caller.name)
    elif caller.namespace is not None:
        query = query.where(row.namespace == caller.namespace)
    for column, value in ((row.key, key), (row.namespace, namespace)):
        query = query if value is None else query.where(column == value)
    query = query if since is None else query.where(row.day >= since)
    query = query if until is None else query.where(row.day <= until)
    if after is not None:
        day, name = after
        query = query.where(or_(row.day < day, and_(row.day == day, row.key > name)))
    return session.scalars(query.order_by(row.day.desc(), row.key).limit(limit)).all()
