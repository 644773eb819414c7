"""Charts, each with its table: what a chart shows is also read as text.

ECharts comes with NiceGUI. Tooltips are drawn as text, never as markup: names are of others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

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
BELOW: Options = {"bottom": 32}  # room for the name of an axis


class Chart(Generic[T]):
    """A chart, and below it the table of the same items, folded unless it is `unfolded`."""

    def __init__(
        self,
        title: str,
        options: Options,
        columns: Sequence[Column[T]],
        items: Sequence[T],
        *,
        on_point: Callable[[EChartPointClickEventArguments], object] | None = None,
        height: str = "20rem",
        unfolded: bool = False,
    ) -> None:
        with ui.element("figure").classes("w-full weft-figure"):
            tagged("figcaption", title)
            self.drawn = ui.echart(_with_defaults(options), on_point_click=on_point)
            self.drawn.classes("w-full").style(f"height: {height}").props("role=img")
            self.drawn.props["aria-label"] = f"{title}; the table below has the same values"
            with ui.expansion("Table", value=unfolded).classes("w-full"):
                self._table = Table(title, columns, items)

    def show(self, options: Options, items: Sequence[T]) -> None:
        """Show other items in the same elements."""
        self.drawn.props["options"] = _with_defaults(options)
        self._table.show(items, stay=True)


def chart(
    title: str,
    options: Options,
    columns: Sequence[Column[T]],
    items: Sequence[T],
    *,
    on_point: Callable[[EChartPointClickEventArguments], object] | None = None,
    height: str = "20rem",
) -> ui.echart:
    """Show a chart of items that stay, and below it, folded, their table. Returns the chart."""
    return Chart(title, options, columns, items, on_point=on_point, height=height).drawn


def on_chart(drawn: ui.echart, event: str, do: Callable[[GenericEventArguments], object]) -> None:
    """Call `do` at an event of ECharts, such as `brushEnd`."""
    drawn.on(f"chart:{event}", do)


def axis(name: str, **more: Any) -> dict[str, Any]:
    """Return an axis of numbers with a name and quiet lines."""
    return {
        "type": "value", "name": name, "nameTextStyle": {"color": INK}, "axisLabel": {"color": INK},
        "splitLine": {"lineStyle": {"color": INK, "opacity": 0.2}}, "scale": True, **more,
    }  # fmt: skip


def axis_below(name: str, **more: Any) -> dict[str, Any]:
    """Return an axis of numbers whose name is below its middle; its chart takes `BELOW` as grid."""
    return axis(name, nameLocation="middle", nameGap=28, **more)


def legend(names: Sequence[str]) -> dict[str, Any]:
    """Return a legend of these series alone."""
    return {**_DEFAULTS["legend"], "data": list(names)}


def categories(names: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return an axis of names."""
    return {
        "type": "category", "data": list(names), "axisLabel": {"color": INK},
        "axisLine": {"lineStyle": {"color": INK}}, **more,
    }  # fmt: skip


def _with_defaults(options: Options) -> dict[str, Any]:
    """Return options over the defaults, part by part: a tooltip of its own is text all the same."""
    merged = {**_DEFAULTS, **options}
    for name in ("tooltip", "legend", "grid"):
        merged[name] = {**_DEFAULTS[name], **options.get(name, {})}
    return merged


_DEFAULTS: Options = {
    "animation": False,
    "color": list(COLOURS),
    "textStyle": {"color": INK},
    "tooltip": {"renderMode": "richText", "confine": True},
    "legend": {"top": 0, "type": "scroll", "textStyle": {"color": INK}},
    "grid": {"left": 8, "right": 16, "top": 56, "bottom": 8, "containLabel": True},
}
