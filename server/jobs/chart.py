"""A job's report as an SVG chart: candidates with their intervals, and the losses of trainings.

Not covered: tables (`report.rows`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple, TypeGuard

from server.jobs.report import FigureJson, Metric, ReportJson, Row, rows, title_of

_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8d5a97", "#e08e0b", "#3a3a3a", "#17a2a2", "#a0522d")
_GREY = "#999999"
_LABELS, _WIDTH, _LINE = 330.0, 360.0, 24.0  # pixels: names, the scale, one candidate
_TOP, _GAP, _HEIGHT = 44.0, 60.0, 200.0  # above, between, the losses' frame
_TICKS = 5


class _Scale(NamedTuple):
    """Maps numbers to pixels: `low` to `start`, `high` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        return [self.low + (self.high - self.low) * i / _TICKS for i in range(_TICKS + 1)]


class _Finite(NamedTuple):
    """A figure of which every number is finite."""

    value: float
    low: float
    high: float


_Curve = Sequence[tuple[int, float | None, float | None]]


def chart(report: ReportJson) -> str:
    """Return a report's chart as an SVG document."""
    metric = report["metric"]
    figures = ((row, _finite_figure(row.figures[metric])) for row in rows(report))
    listed = [(row, figure) for row, figure in figures if figure is not None]
    curves = {each["name"]: each["curve"] for each in report["candidates"] if each["curve"]}
    below = _TOP + _LINE * len(listed) + _GAP
    height = below + (_HEIGHT + 2 * _GAP if curves else 0)
    width = _LABELS + _WIDTH + 150
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
        *_candidates(listed, metric),
        *(_losses(curves, below) if curves else ()),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _finite_figure(figure: FigureJson | None) -> _Finite | None:
    """Return a figure that can be drawn; None where it is missing or not finite."""
    if figure is None:
        return None
    value, low, high = figure["value"], figure["low"], figure["high"]
    if _is_finite(value) and _is_finite(low) and _is_finite(high):
        return _Finite(value, low, high)
    return None


def _candidates(listed: Sequence[tuple[Row, _Finite]], metric: Metric) -> Iterator[str]:
    """Draw a line for each candidate: interval and figure, and the figure as served, hollow."""
    title = f"{title_of(metric)}, nats per token" if metric == "loss" else title_of(metric)
    yield _text(12, 22, f"{title}, with 95 % intervals; hollow: as served")
    high = 1.0 if metric != "loss" else max((figure.high for _, figure in listed), default=1.0)
    scale = _Scale(0.0, high, _LABELS, _LABELS + _WIDTH)
    bottom = _TOP + _LINE * len(listed)
    for tick in scale.ticks():
        yield _line(scale.at(tick), _TOP - 8, scale.at(tick), bottom, "#dddddd")
        yield _text(scale.at(tick), bottom + 16, f"{tick:.2f}", anchor="middle")
    for i, (row, figure) in enumerate(listed):
        y, colour = _TOP + _LINE * (i + 0.4), _GREY if row.reason else _COLOURS[0]
        mark = " (published)" if row.published else " (cannot be served)" if row.reason else ""
        yield _text(_LABELS - 12, y + 4, f"{row.name}{mark}", anchor="end")
        yield _line(scale.at(figure.low), y, scale.at(figure.high), y, colour, 2)
        yield _dot(scale.at(figure.value), y, colour)
        served = _finite_figure(row.as_served(metric))
        if served is not None:
            yield _dot(scale.at(served.value), y, colour, hollow=True)
        yield _text(_LABELS + _WIDTH + 14, y + 4, f"{figure.value:.3f}")


def _losses(curves: Mapping[str, _Curve], top: float) -> Iterator[str]:
    """Draw a line for each training: validation losses by share of its steps."""
    lines = {
        name: [(step / curve[-1][0], valid) for step, _, valid in curve if _is_finite(valid)]
        for name, curve in curves.items()
    }
    values = [loss for line in lines.values() for _, loss in line]
    if not values:
        return
    across = _Scale(0.0, 1.0, _LABELS, _LABELS + _WIDTH)
    up = _Scale(min(0.0, *values), max(values), top + _HEIGHT, top)
    yield _text(12, top - 14, "validation loss while training, by share of the steps")
    for tick in up.ticks():
        yield _line(across.start, up.at(tick), across.end, up.at(tick), "#dddddd")
        yield _text(across.start - 6, up.at(tick) + 4, f"{tick:.2f}", anchor="end")
    for i, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        points = " ".join(f"{across.at(x):.1f},{up.at(loss):.1f}" for x, loss in line)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        y = top + 14.0 * i
        yield _line(12, y, 36, y, colour, 2)
        yield _text(42, y + 4, name)


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, width: float = 1) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" '
        f'stroke="{colour}" stroke-width="{width:g}"/>'
    )


def _dot(x: float, y: float, colour: str, *, hollow: bool = False) -> str:
    fill = "white" if hollow else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
