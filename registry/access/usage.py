"""What each key used: by day for reports, and by minute for limits that several gateways share.

A gateway counts in memory and adds its counts in one transaction every few seconds, so a request
writes nothing. Not covered: the limits themselves (`server.limiting`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Self

from registry.access import usage_queries
from registry.callers import LOCAL, Caller
from registry.errors import CursorInvalid
from registry.paging import Page, key_of, paged
from registry.storage.database import Database
from registry.storage.values import value_of

_KEPT_MINUTES = 5


@dataclass(frozen=True, slots=True)
class Counts:
    """What was used. Tokens are the engine's, `compositions` are builds that were begun."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    compositions: int = 0
    build_seconds: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(  # written out: three sums a request
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.compositions + other.compositions,
            self.build_seconds + other.build_seconds,
        )


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What a key used on a day (UTC)."""

    day: str
    key: str
    namespace: str | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    compositions: int
    build_seconds: float


@dataclass(frozen=True, slots=True)
class Slot:
    """A key, its namespace and a minute, in minutes since 1970."""

    key: str
    namespace: str | None
    minute: int

    @property
    def day(self) -> str:
        """The day of the minute, as 2026-11-28."""
        return datetime.fromtimestamp(60 * self.minute, UTC).date().isoformat()


class Usage:
    """The usage of a registry's keys. Threads may share one instance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, used: Mapping[Slot, Counts]) -> None:
        """Add counts, all or none."""
        # In one order, so that two gateways never wait for each other's rows.
        ordered = sorted(used.items(), key=lambda item: (item[0].key, item[0].minute))
        with self._database.transaction() as session:
            for slot, counts in ordered:
                values = asdict(counts)
                usage_queries.add_to_minute(session, slot.minute, slot.key, values)
                usage_queries.add_to_day(session, slot.day, slot.key, slot.namespace, values)
            newest = max((slot.minute for slot in used), default=0)
            usage_queries.remove_minutes(session, newest - _KEPT_MINUTES)

    @property
    def shared(self) -> bool:
        """Whether other gateways may count, too."""
        return self._database.file is None

    def minutes(self, *, since: int) -> Mapping[tuple[str, int], Counts]:
        """Return what every key used, through all gateways, by key and minute, from `since` on."""
        with self._database.read() as session:
            rows = usage_queries.minutes(session, since)
            return {(row.key, row.minute): Counts(*row[2:]) for row in rows}

    def page(
        self,
        *,
        key: str | None = None,
        namespace: str | None = None,
        since: str | None = None,
        until: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        caller: Caller = LOCAL,
    ) -> Page[KeyUsage]:
        """Return usage by day and key, newest day first.

        Args:
            key: only this key.
            namespace: only keys of this namespace.
            since: only this day (2026-11-28) and later ones.
            until: only this day and earlier ones.
            cursor: the `next_cursor` of the previous page.
            limit: the maximal number of rows.
            caller: an admin sees the keys that it manages, any other caller its own.

        Raises:
            CursorInvalid: the cursor does not belong to this list.
        """
        after = _place(key_of("usage", cursor, str))
        with self._database.read(caller) as session:
            rows = usage_queries.days(session, key, namespace, since, until, after, limit + 1)
            place = lambda row: f"{row.day} {row.key}"  # noqa: E731
            return paged("usage", rows, limit, place, partial(value_of, KeyUsage))


def _place(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    day, blank, key = text.partition(" ")
    if not blank:
        raise CursorInvalid
    return day, key
