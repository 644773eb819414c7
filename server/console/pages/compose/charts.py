"""The charts of an explanation, as options of ECharts, from typed values."""

from collections.abc import Sequence
from typing import Any

from server.console.parts.chart import INK, Options, axis, categories

_LABELLED = 12  # ingredients up to which the cells of a heat map show their numbers
_BELOW, _ZERO, _ABOVE = "#4477aa", "#f4f4f4", "#ee6677"


def share_chart(names: Sequence[str], shares: Sequence[float]) -> Options:
    """Return bars of each ingredient's share of the norm, the first on top."""
    return {
        "grid": {"left": 8, "right": 48, "top": 8, "bottom": 8, "containLabel": True},
        "xAxis": axis("", max=100, scale=False, axisLabel=_PERCENT),
        "yAxis": categories(names, inverse=True),
        "series": [{
            "type": "bar", "data": [round(100 * share, 1) for share in shares],
            "label": {"show": True, "position": "right", "color": INK, "formatter": "{c} %"},
        }],
    }  # fmt: skip


def matrix_chart(
    names: Sequence[str], rows: Sequence[Sequence[float | None]], *, low: float
) -> Options:
    """Return values from `low` to 1 of pairs as a heat map; what is not known stays empty."""
    cells = [
        [column, row, round(value, 2)]
        for row, values in enumerate(rows)
        for column, value in enumerate(values)
        if value is not None
    ]
    return {
        "grid": {"left": 8, "right": 8, "top": 8, "bottom": 56, "containLabel": True},
        "xAxis": categories(names),
        "yAxis": categories(names, inverse=True),
        "visualMap": {
            "min": low, "max": 1, "orient": "horizontal", "left": "center", "bottom": 0,
            "textStyle": {"color": INK},
            "inRange": {"color": [_BELOW, _ZERO, _ABOVE] if low < 0 else [_ZERO, _ABOVE]},
        },
        "series": [{
            "type": "heatmap", "data": cells,
            "label": {"show": len(names) <= _LABELLED, "color": "#000"},
        }],
    }  # fmt: skip


def energy_chart(energy: Sequence[float], rank: int) -> Options:
    """Return the share of the energy that each rank keeps as a curve, with the draft's rank."""
    mark: dict[str, Any] = {"xAxis": rank, "label": {"formatter": f"rank {rank}", "color": INK}}
    return {
        "xAxis": axis("rank", min=0, minInterval=1),
        "yAxis": axis("energy kept", max=100, scale=False, axisLabel=_PERCENT),
        "series": [{
            "type": "line", "showSymbol": False,
            "data": [[k, round(100 * share, 2)] for k, share in enumerate(energy, start=1)],
            "markLine": {"symbol": "none", "data": [mark]},
        }],
    }  # fmt: skip


_PERCENT = {"color": INK, "formatter": "{value} %"}
