"""Evaluations over the versions of an adapter."""

from collections.abc import Sequence
from typing import Any

from server.console.api.adapters import MOST, Evaluation, evaluations
from server.console.page import PageContext
from server.console.parts.chart import INK, Options, axis, categories, chart
from server.console.parts.empty import empty
from server.console.parts.section import Section
from server.console.parts.table import Column
from server.console.parts.text import plain, tagged


def over_versions(measured: Sequence[Evaluation]) -> Options:
    """Return a chart with a line per data set and metric; the newest value of a version counts.

    `measured` is newest first.
    """
    numbers = sorted({one.number for one in measured})
    lines: dict[str, list[float | None]] = {}
    for one in measured:
        line = lines.setdefault(f"{one.dataset}: {one.metric}", [None] * len(numbers))
        place = numbers.index(one.number)
        line[place] = one.value if line[place] is None else line[place]
    series: list[dict[str, Any]] = [
        {"type": "line", "name": plain(name, 80), "data": line, "connectNulls": True}
        for name, line in lines.items()
    ]
    return {
        "xAxis": categories([str(number) for number in numbers], name="version",
                            nameTextStyle={"color": INK}),
        "yAxis": axis("value"),
        "series": series,
        "tooltip": {"renderMode": "richText", "confine": True, "trigger": "axis"},
    }  # fmt: skip


def draw_evaluations(page: PageContext, name: str) -> None:
    """Draw what was measured of each version."""
    tagged("h2", "Evaluations").classes("text-lg font-bold")

    async def build() -> None:
        found = await evaluations(page.api, name)
        if not found.items:
            empty(
                "Nothing was measured yet.",
                command=f"weft adapters evaluate {name} --dataset D --metric M --value V",
            )
            return
        if found.next_cursor is not None:
            tagged("p", f"These are the newest {MOST}.")
        chart("Evaluations over versions", over_versions(found.items), _COLUMNS, found.items)

    Section(build)


_COLUMNS = [
    Column[Evaluation]("Version", lambda one: one.number),
    Column[Evaluation]("Data set", lambda one: one.dataset),
    Column[Evaluation]("Metric", lambda one: one.metric),
    Column[Evaluation]("Value", lambda one: one.value),
    Column[Evaluation]("Examples", lambda one: one.n),
    Column[Evaluation]("Measured", lambda one: f"{one.measured_at:%Y-%m-%d %H:%M}"),
    Column[Evaluation]("By", lambda one: one.created_by),
]
