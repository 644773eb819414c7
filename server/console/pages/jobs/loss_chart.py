"""A job's losses as a chart, and as the table beside it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from server.console.pages.jobs.losses import Curve, Point
from server.console.parts.chart import BELOW, COLOURS, INK, axis, axis_below
from server.console.parts.table import Column


class LossPoint(NamedTuple):
    """A point of a candidate's curve."""

    training: str
    point: Point


LOSS_COLUMNS = [
    Column[LossPoint]("Training", lambda row: row.training),
    Column[LossPoint]("Step", lambda row: row.point.step),
    Column[LossPoint]("Training loss", lambda row: row.point.train),
    Column[LossPoint]("Validation loss", lambda row: row.point.valid),
    Column[LossPoint]("Lowest", lambda row: row.point.low),
    Column[LossPoint]("Highest", lambda row: row.point.high),
]
_MOST_POINTS = 200  # of a curve; more could not be told apart


def loss_options(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the options of the chart: losses by share of the steps.

    A candidate has one colour: its validation loss is a line, its training loss a dashed one, and
    its band lies between the lowest and the highest validation loss of its folds.
    """
    series: list[dict[str, Any]] = []
    for number, curve in enumerate(curves):
        series += _series(curve, COLOURS[number % len(COLOURS)])
    return {
        "legend": {"data": [curve.name for curve in curves]},
        "tooltip": {"trigger": "axis"},
        "grid": BELOW,
        "xAxis": axis_below("% of the steps", min=0, max=100),
        "yAxis": axis("nats per token", nameTextStyle={"color": INK, "align": "left"}),
        "series": series,
    }  # fmt: skip


def loss_points(curves: Sequence[Curve]) -> list[LossPoint]:
    """Return the points of curves as the table beside the chart lists them."""
    return [LossPoint(curve.name, point) for curve in curves for point in curve.points]


def _series(curve: Curve, colour: str) -> list[dict[str, Any]]:
    points = _thinned(curve.points)
    valid = [point for point in points if point.valid is not None]
    share = 100.0 / max(curve.steps, 1)
    line = {"type": "line", "showSymbol": False, "name": curve.name, "color": colour}
    series: list[dict[str, Any]] = [
        {**line, "data": [[share * p.step, p.valid] for p in valid], "symbol": "circle",
         "showSymbol": len(valid) == 1},
        {**line, "data": [[share * p.step, p.train] for p in points if p.train is not None],
         "lineStyle": {"type": "dashed", "width": 1, "opacity": 0.6}},
    ]  # fmt: skip
    if any(point.low != point.high for point in valid):
        series += _band(valid, share, curve.name, colour)
    return series


def _band(points: Sequence[Point], share: float, name: str, colour: str) -> list[dict[str, Any]]:
    """Return two series that are stacked: an unseen one up to the band, and the band."""
    unseen = {
        "type": "line", "showSymbol": False, "name": name, "stack": f"band {name}", "silent": True,
        "lineStyle": {"opacity": 0}, "tooltip": {"show": False}, "stackStrategy": "all",
    }  # fmt: skip
    widths = [
        [share * p.step, p.high - p.low] for p in points if p.high is not None and p.low is not None
    ]
    return [
        {**unseen, "data": [[share * p.step, p.low] for p in points]},
        {**unseen, "data": widths, "areaStyle": {"color": colour, "opacity": 0.18}},
    ]


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Return at most `_MOST_POINTS` points: evaluations first, as the line needs them."""
    evaluated = [point for point in points if point.valid is not None]
    every = -(-len(points) // _MOST_POINTS)
    kept = {point.step for point in points[::every]} | {point.step for point in points[-1:]}
    kept |= {point.step for point in evaluated[:: -(-len(evaluated) // _MOST_POINTS) or 1]}
    return [point for point in points if point.step in kept]
