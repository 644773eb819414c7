"""Small charts as SVG text: lines, or dots in rows, with intervals, side by side on one scale.

Covered: panels that share an axis from 0 to 1. Not covered: any other kind of chart.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from tests.lab.merging.intervals import Interval

COLOURS = (
    "#1b6ca8", "#d1495b", "#2e8b57", "#8d5a97", "#e08e0b", "#3a3a3a", "#17a2a2", "#a0522d",
    "#7a7a00", "#e377c2",
)  # fmt: skip
WIDTH, HEIGHT = 260.0, 220.0  # of a panel's frame, in pixels
LEFT, TOP, GAP, BOTTOM, LINE = 56.0, 34.0, 36.0, 46.0, 17.0
LABELS = 230.0  # width of the labels of rows
NUDGE = 2.0  # between lines at the same place, so that their intervals can be told apart


class Curve(NamedTuple):
    """A line: one interval at each of the panel's ticks."""

    label: str
    values: Sequence[Interval]


class Panel(NamedTuple):
    """Curves in a frame; every panel of a chart has the same labels in the same order."""

    title: str
    curves: Sequence[Curve]


class Dot(NamedTuple):
    """A value with its interval, if it has one."""

    value: float
    low: float | None
    high: float | None


class DotPanel(NamedTuple):
    """Rows of dots; every panel of a chart has the same labels in the same order."""

    title: str
    rows: Mapping[str, Sequence[Dot]]


def dot_chart(panels: Sequence[DotPanel], kinds: Sequence[str], *, across: str) -> str:
    """Return the chart as an SVG document; a row's dots are of `kinds`, in their order."""
    labels = list(panels[0].rows) if panels else []
    height = LINE * (len(labels) + 1)
    parts = [*_head(LABELS + len(panels) * (WIDTH + GAP), TOP + height + BOTTOM + LINE)]
    for row, label in enumerate(labels):
        parts.append(_text(LABELS - 8, TOP + LINE * (row + 1) + 4, label, anchor="end"))
    for i, panel in enumerate(panels):
        left = LABELS + i * (WIDTH + GAP)
        parts += _scale(left, TOP + height, panel.title, across)
        for row, dots in enumerate(panel.rows.values()):
            for kind, dot in enumerate(dots):
                shift = (kind - (len(dots) - 1) / 2) * 2 * NUDGE
                parts += _dot(left, TOP + LINE * (row + 1) + shift, dot, _colour(kind))
    for kind, name in enumerate(kinds):
        x, y = LABELS + 80 * kind, TOP + height + BOTTOM
        parts += [*_dot(x, y, Dot(0.0, None, None), _colour(kind)), _text(x + 8, y + 4, name)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _dot(left: float, y: float, dot: Dot, colour: str) -> Iterator[str]:
    if dot.low is not None and dot.high is not None:
        yield _line(_along(left, dot.low), y, _along(left, dot.high), y, colour, 1)
    yield f'<circle cx="{_along(left, dot.value):.1f}" cy="{y:.1f}" r="2.4" fill="{colour}"/>'


def _scale(left: float, bottom: float, title: str, across: str) -> Iterator[str]:
    yield _text(left + WIDTH / 2, TOP - 14, title, anchor="middle")
    for fifth in range(6):
        x = _along(left, fifth / 5)
        yield _line(x, TOP, x, bottom, "#dddddd", 1)
        yield _text(x, bottom + 15, f"{fifth / 5:.1f}", anchor="middle")
    yield _text(left + WIDTH / 2, bottom + 31, across, anchor="middle")


def _along(left: float, share: float) -> float:
    return left + WIDTH * min(max(share, 0.0), 1.0)


def _head(width: float, height: float) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{width:g}" height="{height:g}" fill="white"/>'


def line_chart(panels: Sequence[Panel], ticks: Sequence[str], *, across: str, up: str) -> str:
    """Return the chart as an SVG document; `across` and `up` say what the axes are."""
    labels = [curve.label for curve in panels[0].curves]
    width = LEFT + len(panels) * (WIDTH + GAP)
    height = TOP + HEIGHT + BOTTOM + LINE * len(labels)
    parts = [*_head(width, height), _text(14, TOP + HEIGHT / 2, up, turned=True)]
    for i, panel in enumerate(panels):
        left = LEFT + i * (WIDTH + GAP)
        parts += [*_frame(left, panel.title, ticks, across), *_curves(left, panel.curves)]
    for i, label in enumerate(labels):
        y = TOP + HEIGHT + BOTTOM + LINE * i
        parts += [_line(LEFT, y, LEFT + 24, y, _colour(i), 2), _text(LEFT + 32, y + 4, label)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _frame(left: float, title: str, ticks: Sequence[str], across: str) -> Iterator[str]:
    yield _text(left + WIDTH / 2, TOP - 14, title, anchor="middle")
    for fifth in range(6):
        y = _y(fifth / 5)
        yield _line(left, y, left + WIDTH, y, "#dddddd", 1)
        yield _text(left - 4, y + 4, f"{fifth / 5:.1f}", anchor="end")
    for i, tick in enumerate(ticks):
        yield _text(_x(left, i, len(ticks)), TOP + HEIGHT + 15, tick, anchor="middle")
    yield _text(left + WIDTH / 2, TOP + HEIGHT + 31, across, anchor="middle")


def _curves(left: float, curves: Sequence[Curve]) -> Iterator[str]:
    for i, curve in enumerate(curves):
        shift = (i - (len(curves) - 1) / 2) * NUDGE
        places = [_x(left, j, len(curve.values)) + shift for j in range(len(curve.values))]
        points = " ".join(
            f"{x:.1f},{_y(value.mean):.1f}" for x, value in zip(places, curve.values, strict=True)
        )
        yield f'<polyline points="{points}" fill="none" stroke="{_colour(i)}" stroke-width="1.6"/>'
        for x, value in zip(places, curve.values, strict=True):
            half = value.half or 0.0
            yield _line(x, _y(value.mean - half), x, _y(value.mean + half), _colour(i), 0.8)
            yield f'<circle cx="{x:.1f}" cy="{_y(value.mean):.1f}" r="2.4" fill="{_colour(i)}"/>'


def _x(left: float, place: int, places: int) -> float:
    return left + WIDTH * (place + 0.5) / places


def _y(share: float) -> float:
    return TOP + HEIGHT * (1.0 - min(max(share, 0.0), 1.0))


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, width: float) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" '
        f'stroke="{colour}" stroke-width="{width:g}"/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    anchor = "middle" if turned else anchor
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'
