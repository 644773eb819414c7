"""Charts, each with its table: what a chart shows is also read as text.

ECharts comes with NiceGUI. Tooltips are drawn as text, never as markup: names are of others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from nicegui import ui
from nicegui.events import EChartPointClickEventArguments, GenericEventArguments

from server.console.parts.table import Column, Table
from server.console.parts.text import tagged

T = TypeVar("T")
Options: TypeAlias = Mapping[str, Any]
# Read on white and on black: a chart does not know which of the two it stands on.
INK = "#808080"
COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99",
    "#bbcc33", "#99ddff", "#ffaabb", "#bbbbbb",
)  # fmt: skip


def chart(
    title: str,
    options: Options,
    columns: Sequence[Column[T]],
    items: Sequence[T],
    *,
    on_point: Callable[[EChartPointClickEventArguments], object] | None = None,
    height: str = "20rem",
) -> ui.echart:
    """Show a chart, and below it, folded, the table of the same items. Returns the chart."""
    with ui.element("figure").classes("w-full weft-figure"):
        tagged("figcaption", title)
        drawn = ui.echart({**_DEFAULTS, **options}, on_point_click=on_point)
        drawn.classes("w-full").style(f"height: {height}").props("role=img")
        drawn.props["aria-label"] = f"{title}; the table below has the same values"
        with ui.expansion("Table").classes("w-full"):
            Table(title, columns, items)
    return drawn


def on_chart(drawn: ui.echart, event: str, do: Callable[[GenericEventArguments], object]) -> None:
    """Call `do` at an event of ECharts, such as `brushEnd`."""
    drawn.on(f"chart:{event}", do)


def axis(name: str, **more: Any) -> dict[str, Any]:
    """Return an axis of numbers with a name and quiet lines."""
    return {
        "type": "value", "name": name, "nameTextStyle": {"color": INK}, "axisLabel": {"color": INK},
        "splitLine": {"lineStyle": {"color": INK, "opacity": 0.2}}, "scale": True, **more,
    }  # fmt: skip


def legend(names: Sequence[str]) -> dict[str, Any]:
    """Return a legend of these series alone."""
    return {**_DEFAULTS["legend"], "data": list(names)}


def categories(names: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return an axis of names."""
    return {
        "type": "category", "data": list(names), "axisLabel": {"color": INK},
        "axisLine": {"lineStyle": {"color": INK}}, **more,
    }  # fmt: skip


_DEFAULTS: Options = {
    "animation": False,
    "color": list(COLOURS),
    "textStyle": {"color": INK},
    "tooltip": {"renderMode": "richText", "confine": True},
    "legend": {"top": 0, "type": "scroll", "textStyle": {"color": INK}},
    "grid": {"left": 8, "right": 16, "top": 56, "bottom": 8, "containLabel": True},
}
