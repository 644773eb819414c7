"""A report's candidates: the columns of their table, and a chart of their intervals.

The figures and their texts are those of `server.jobs.report`, which the command line shows too.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from server.console.parts.chart import BELOW, COLOURS, axis_below, categories
from server.console.parts.table import Column
from server.jobs.report import (
    METRICS,
    FigureJson,
    Metric,
    ReportJson,
    Row,
    gain_text,
    interval_text,
    rows,
    title_of,
)

_OWN, _CONTROL, _UNSERVABLE = COLOURS[0], COLOURS[6], COLOURS[11]
_CAP = [2, 12]  # pixels of an interval's ends


def candidate_columns(report: ReportJson) -> list[Column[Row]]:
    """Return the columns of a report's table; reports of older releases have fewer."""
    listed = list(rows(report))
    metrics = [metric for metric in METRICS if any(row.figures[metric] for row in listed)]
    columns = [
        Column[Row]("Candidate", lambda row: row.name),
        Column[Row]("What it is", partial(_role, report)),
        *(_interval_column(metric) for metric in metrics),
    ]
    if any(row.served for row in listed):
        columns += [_served_column(metric) for metric in metrics]
    if any(row.comparison for row in listed):
        gain = partial(_gain, report["metric"])
        columns.append(Column[Row]("Gain", gain))
    return [*columns, Column[Row]("State", state_of)]


def publishable(report: ReportJson) -> list[str]:
    """Return the names of the candidates that can be published and are not, the best first."""
    return [row.name for row in rows(report) if row.reason is None and not row.published]


def state_of(row: Row) -> str:
    """Return whether a candidate is published, or why it cannot be."""
    if row.published:
        return "published"
    return f"cannot be served: {row.reason}" if row.reason else ""


def interval_options(report: ReportJson) -> dict[str, Any]:
    """Return the options of the chart of intervals by the report's metric, the best on top.

    The method's own candidates have another colour than its controls; what cannot be served is
    grey, and figures as served are hollow.
    """
    metric = report["metric"]
    drawn = [row for row in rows(report) if _is_finite(row.figures[metric])]
    names = [row.name for row in drawn]
    title = f"{title_of(metric)}, {'nats per token' if metric == 'loss' else '%'}"
    return {
        "legend": {"show": False},
        "grid": {**BELOW, "top": 8},
        "xAxis": axis_below(title, **({} if metric == "loss" else {"min": 0, "max": 100})),
        "yAxis": categories(names, inverse=True),
        "series": [*(_interval(report, row, metric) for row in drawn),
                   _served([row.as_served(metric) for row in drawn], metric)],
    }  # fmt: skip


def _interval_column(metric: Metric) -> Column[Row]:
    return Column(title_of(metric), lambda row: interval_text(row.figures[metric], metric))


def _served_column(metric: Metric) -> Column[Row]:
    return Column(
        f"{title_of(metric)} as served", lambda row: interval_text(row.as_served(metric), metric)
    )


def _gain(metric: Metric, row: Row) -> str:
    return gain_text(row.comparison, metric)


def _interval(report: ReportJson, row: Row, metric: Metric) -> dict[str, Any]:
    figure = row.figures[metric]
    assert figure is not None, "only finite figures are drawn"
    low, value, high = (_scaled(figure[end], metric) for end in ("low", "value", "high"))
    return {
        "type": "line", "name": row.name, "color": _colour(report, row), "lineStyle": {"width": 2},
        "data": [
            {"value": [low, row.name], "symbol": "rect", "symbolSize": _CAP},
            {"value": [value, row.name], "symbol": "circle", "symbolSize": 9},
            {"value": [high, row.name], "symbol": "rect", "symbolSize": _CAP},
        ],
    }  # fmt: skip


def _served(figures: Sequence[FigureJson | None], metric: Metric) -> dict[str, Any]:
    points = [
        [_scaled(figure["value"], metric), number]
        for number, figure in enumerate(figures)
        if figure is not None and figure["value"] is not None
    ]
    return {
        "type": "scatter", "name": "as served", "data": points, "symbol": "emptyCircle",
        "symbolSize": 11, "color": _OWN,
    }  # fmt: skip


def _role(report: ReportJson, row: Row) -> str:
    return f"{row.title} ({'the method' if _is_own(report, row) else 'a control'})"


def _colour(report: ReportJson, row: Row) -> str:
    if row.reason:
        return _UNSERVABLE
    return _OWN if _is_own(report, row) else _CONTROL


def _is_own(report: ReportJson, row: Row) -> bool:
    """Return whether a candidate is the method's; with several k, each has one."""
    own = report["method"]
    return row.name in (own, report["main"]) or row.name.startswith(f"{own}_k")


def _is_finite(figure: FigureJson | None) -> bool:
    return figure is not None and None not in (figure["value"], figure["low"], figure["high"])


def _scaled(value: float | None, metric: Metric) -> float | None:
    return value if value is None or metric == "loss" else 100.0 * value
