"""What a job tells at its end: every candidate with its figures, and which one to serve, and why.

The learning's outcome, and what became of it here: what was folded and served, and how far that is
from what was learned; what cannot be served any more; what was published. Not covered: its looks
(`chart`, the command line).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from merge.adaptive.scoring.scorer import Figures

Metric = Literal["exact_match", "pattern", "loss"]
METRICS: tuple[Metric, ...] = ("exact_match", "pattern", "loss")
_TITLES: Mapping[Metric, str] = {
    "exact_match": "exact match", "pattern": "pattern", "loss": "validation loss",
}  # fmt: skip


class Row(NamedTuple):
    """One candidate in a table."""

    name: str
    title: str
    figures: Mapping[str, Mapping[str, float] | None]
    served: Mapping[str, Mapping[str, float] | None] | None
    reason: str | None  # why it cannot be served
    published: bool


def title_of(metric: Metric) -> str:
    """Return what people call a metric."""
    return _TITLES[metric]


def rows(report: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the table of a report, the best first."""
    published = (report["published"] or {}).get("candidate")
    by_name = {each["name"]: each for each in report["candidates"]}
    for candidate in (by_name[name] for name in report["ranked"]):
        served = candidate.get("served") or {}
        yield Row(
            candidate["name"], candidate["title"], candidate["figures"], served.get("figures"),
            candidate["unservable"], candidate["name"] == published,
        )  # fmt: skip


def served_part(candidate: Mapping[str, Any], artifact: str, figures: "Figures") -> dict[str, Any]:
    """Return what a report says of a candidate that the engine was asked for.

    `difference` is served minus learned, of each figure.
    """
    told = figures.to_json()
    return {
        "artifact": artifact, "figures": told, "difference": gaps(candidate["figures"], told),
    }  # fmt: skip


def gaps(
    learned: Mapping[str, Mapping[str, float] | None],
    other: Mapping[str, Mapping[str, float] | None] | None,
) -> dict[str, float] | None:
    """Return by how much figures differ from those that were learned; None without others."""
    if other is None:
        return None
    found: dict[str, float] = {}
    for metric in METRICS:
        ours, theirs = learned.get(metric), other.get(metric)
        if ours is not None and theirs is not None:
            found[metric] = theirs["value"] - ours["value"]
    return found


def interval_text(figure: Mapping[str, float] | None, metric: Metric) -> str:
    """Return a figure with its interval as people read it."""
    if figure is None or figure["value"] is None:
        return ""
    scale, digits = (1.0, 3) if metric == "loss" else (100.0, 1)
    value, low, high = (scale * figure[name] for name in ("value", "low", "high"))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
