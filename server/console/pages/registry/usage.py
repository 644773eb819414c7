"""What keys used: tokens by day as a chart, and every day of every key as a list."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from server.console.api.keys import Usage, usage
from server.console.page import PageContext
from server.console.parts.chart import axis, categories, chart
from server.console.parts.empty import empty
from server.console.parts.section import Section
from server.console.parts.table import Column, cursor_table

_DAYS = 14
_PER_PAGE, _MOST_PAGES = 100, 5
_MOST_KEYS = 8  # that have a colour of their own
_OTHERS = "other keys"


def build(page: PageContext) -> None:
    """Show the usage of the key, or of the keys that it manages."""

    async def draw() -> None:
        rows = await _recent(page)
        if rows:
            title = f"Tokens by day (UTC) and key, at most {_DAYS} days"
            chart(title, usage_options(rows), _COLUMNS, rows)

    Section(draw)
    cursor_table(
        "Usage by day and key, newest first", _COLUMNS, lambda at: usage(page.api, at),
        lambda: empty("No key has been used yet. Requests appear here after some seconds."),
    )  # fmt: skip


async def _recent(page: PageContext) -> list[Usage]:
    """Return the usage of the last days, without a day of which rows are missing."""
    since = (datetime.now(UTC) - timedelta(days=_DAYS - 1)).strftime("%Y-%m-%d")
    rows: list[Usage] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        answer = await usage(page.api, cursor, since=since, limit=_PER_PAGE)
        rows += answer.items
        cursor = answer.next_cursor
        if cursor is None:
            return rows
    return [row for row in rows if row.day != rows[-1].day]


def usage_options(rows: Sequence[Usage]) -> dict[str, Any]:
    """Return the options of the chart: tokens of prompts and answers, one colour for each key."""
    days = sorted({row.day for row in rows})
    totals: dict[str, int] = {}
    for row in rows:
        totals[row.key] = totals.get(row.key, 0) + _tokens(row)
    largest = sorted(totals, key=lambda key: -totals[key])[:_MOST_KEYS]
    names = [*largest, _OTHERS] if len(totals) > len(largest) else largest
    tokens = {name: dict.fromkeys(days, 0) for name in names}
    for row in rows:
        tokens[row.key if row.key in tokens else _OTHERS][row.day] += _tokens(row)
    return {
        "tooltip": {"trigger": "axis"},
        "xAxis": categories(days),
        "yAxis": axis("tokens", scale=False),
        "series": [
            {"type": "bar", "stack": "tokens", "name": name, "data": list(by_day.values())}
            for name, by_day in tokens.items()
        ],
    }  # fmt: skip


def _tokens(row: Usage) -> int:
    return row.prompt_tokens + row.completion_tokens


_COLUMNS = [
    Column[Usage]("Day", lambda row: row.day),
    Column[Usage]("Key", lambda row: row.key),
    Column[Usage]("Namespace", lambda row: row.namespace),
    Column[Usage]("Requests", lambda row: row.requests),
    Column[Usage]("Prompt tokens", lambda row: row.prompt_tokens),
    Column[Usage]("Completion tokens", lambda row: row.completion_tokens),
    Column[Usage]("Merges", lambda row: row.compositions),
    Column[Usage]("Merge seconds", lambda row: row.build_seconds),
]
