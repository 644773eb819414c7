"""The map of adapters: a scatter chart, coloured, with a lasso.

Points are drawn in ECharts' large mode, a series per colour. The lasso's corners come back in the
map's own coordinates, and which points they hold is computed here.
"""

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui
from nicegui.events import EChartPointClickEventArguments, GenericEventArguments

from server.console.api.map import AdapterMap
from server.console.pages.adapters.rows import Colour, Row, groups_of, inside
from server.console.parts.chart import COLOURS, Options, chart, legend, on_chart
from server.console.parts.table import Column
from server.console.parts.text import plain

_LARGE = 1000
_LEGEND = 32  # pixels
_MARKED = "marked"
_LASSO = {
    "type": "takeGlobalCursor", "key": "brush",
    "brushOption": {"brushType": "polygon", "brushMode": "single"},
}  # fmt: skip
_NO_LASSO = ({"type": "brush", "areas": []}, {"type": "takeGlobalCursor", "key": "brush"})


class AdapterChart:
    """The map as a chart.

    Args:
        points: the map.
        rows: what stands for each of its points.
        colour: what colours them.
        pick: called with the names in the lasso.
        show: called with the name of a point that is clicked.
    """

    def __init__(
        self,
        points: AdapterMap,
        rows: Sequence[Row],
        colour: Colour,
        *,
        pick: Callable[[list[str]], None],
        show: Callable[[str], None],
    ) -> None:
        self._points, self._pick, self._show = points, pick, show
        self._places = {name: index for index, name in enumerate(points.name)}
        self._chart = chart(
            f"Adapters by {points.by}, coloured by {colour}",
            map_options(points, rows, colour),
            [
                Column[Row]("Name", lambda row: row.name),
                Column[Row]("x", lambda row: points.x[self._places[row.name]]),
                Column[Row]("y", lambda row: points.y[self._places[row.name]]),
            ],
            rows,
            on_point=self._clicked,
            height="28rem",
        )
        on_chart(self._chart, "brushEnd", self._lassoed)
        with ui.row().classes("items-center"):
            ui.button("Lasso", on_click=self._take_lasso).props("flat no-caps dense")
            ui.label("Ctrl and wheel zoom; Shift and drag move.").classes("text-sm")

    def mark(self, name: str) -> None:
        """Mark the point of an adapter, if it has one."""
        place = self._places.get(name)
        at = [] if place is None else [[self._points.x[place], self._points.y[place], name]]
        self._chart.run_chart_method("setOption", {"series": [{"id": _MARKED, "data": at}]})

    def _take_lasso(self) -> None:
        self._chart.run_chart_method("dispatchAction", _LASSO)
        ui.notify("Draw a line around adapters on the map.")

    def _clicked(self, event: EChartPointClickEventArguments) -> None:
        if isinstance(event.data, list):
            self._show(str(event.data[2]).partition("\n")[0])

    def _lassoed(self, event: GenericEventArguments) -> None:
        for action in _NO_LASSO:
            self._chart.run_chart_method("dispatchAction", action)
        areas = event.args.get("areas") or [{}]
        polygon = areas[0].get("coordRange") or []
        if polygon:
            indexes = inside(self._points.x, self._points.y, polygon)
            self._pick([self._points.name[index] for index in indexes])


def map_options(points: AdapterMap, rows: Sequence[Row], colour: Colour) -> Options:
    """Return the options of the chart: a series per colour, and one for what is marked."""
    groups = groups_of(rows, colour)
    cards = [_card(row) for row in rows]
    series = [
        _series(
            plain(label, 60), COLOURS[index % len(COLOURS)],
            [[points.x[at], points.y[at], cards[at]] for at in places], many=len(rows) > _LARGE,
        )
        for index, (label, places) in enumerate(groups.items())
    ]  # fmt: skip
    hidden = {"type": "value", "show": False, "scale": True, "boundaryGap": ["5%", "5%"]}
    zoom = {"type": "inside", "zoomOnMouseWheel": "ctrl", "moveOnMouseMove": "shift",
            "moveOnMouseWheel": False}  # fmt: skip
    return {
        "legend": legend([plain(label, 60) for label in groups]),
        # A lasso begins within the grid alone, so that this fills all below the legend.
        "grid": {"left": 0, "right": 0, "top": _LEGEND, "bottom": 0, "containLabel": False},
        "xAxis": hidden, "yAxis": hidden,
        "series": [*series, _marker()],
        "brush": {"toolbox": [], "xAxisIndex": 0, "yAxisIndex": 0, "throttleType": "debounce"},
        "dataZoom": [{**zoom, "xAxisIndex": 0}, {**zoom, "yAxisIndex": 0}],
        "tooltip": {"renderMode": "richText", "confine": True, ":formatter": "p => p.data[2]"},
    }  # fmt: skip


def _series(name: str, colour: str, data: list[list[Any]], *, many: bool) -> dict[str, Any]:
    return {
        "type": "scatter", "name": name, "data": data, "large": many, "largeThreshold": 1,
        "symbolSize": 5 if many else 9, "itemStyle": {"color": colour, "opacity": 0.8},
    }  # fmt: skip


def _marker() -> dict[str, Any]:
    return {
        "type": "scatter", "id": _MARKED, "name": "shown", "data": [], "symbolSize": 18, "z": 5,
        "itemStyle": {"color": "transparent", "borderColor": "#c10015", "borderWidth": 3},
    }  # fmt: skip


def _card(row: Row) -> str:
    """Return what hovering shows: the name, and what the chart may be coloured by."""
    tags = ", ".join(row.tags) or "no tags"
    lines = (row.name, f"rank {row.rank} · {row.status}", tags, f"{row.base} · {row.owner}")
    return "\n".join(plain(line, 80) for line in lines)
