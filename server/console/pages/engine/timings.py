"""Recent requests by where their time went, as a chart and as counts of their errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from server.console.api.engines import Request
from server.console.parts.chart import BELOW, axis_below, categories

_DRAWN = 30  # requests; more bars could not be told apart
_STAGES = ("resolve", "merge", "load")


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often an error was answered, and when last."""

    error: str
    count: int
    last: datetime


def stage_ms(request: Request, stage: str) -> float | None:
    """Return the milliseconds that a request spent in a stage; None where it had none."""
    seconds = request.stages.get(stage)
    return None if seconds is None else 1000 * seconds


def first_ms(request: Request) -> float | None:
    """Return the milliseconds to the first byte of the answer, which has the first token."""
    seconds = request.first_byte_seconds
    return None if seconds is None else 1000 * seconds


def timing_options(requests: Sequence[Request]) -> dict[str, Any]:
    """Return the options of a chart with a bar for each of the newest requests, the newest on top.

    A bar has the stages before the engine, the wait for the first token, and the rest.
    """
    drawn = list(requests[:_DRAWN])
    parts = [_parts(request) for request in drawn]
    names = (*_STAGES, "first token", "answer")
    return {
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
        "legend": {"data": list(names)},
        "grid": BELOW,
        "xAxis": axis_below("ms", scale=False),
        "yAxis": categories([f"{request.at:%H:%M:%S}" for request in drawn], inverse=True),
        "series": [
            {"type": "bar", "stack": "time", "name": name,
             "data": [round(part[at], 1) for part in parts]}
            for at, name in enumerate(names)
        ],
    }  # fmt: skip


def error_counts(requests: Sequence[Request]) -> list[ErrorCount]:
    """Return the errors of requests, the most frequent first."""
    found: dict[str, ErrorCount] = {}
    for request in requests:  # the newest first
        if request.outcome == "done":
            continue
        name = request.error or ("the client left" if request.outcome == "left" else "unknown")
        last = found[name].last if name in found else request.at
        count = found[name].count + 1 if name in found else 1
        found[name] = ErrorCount(name, count, last)
    return sorted(found.values(), key=lambda error: -error.count)


def _parts(request: Request) -> tuple[float, ...]:
    """Return milliseconds: of each stage, from there to the first byte, from there to the end."""
    stages = [1000 * request.stages.get(stage, 0.0) for stage in _STAGES]
    total = 1000 * request.seconds
    first = total if request.first_byte_seconds is None else 1000 * request.first_byte_seconds
    return (*stages, max(0.0, first - sum(stages)), max(0.0, total - first))
