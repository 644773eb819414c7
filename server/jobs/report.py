"""A job's report: every candidate with its figures, which one to serve, and why.

A report is JSON, stored with the job and sent as it is; these types name its parts. It holds the
outcome of the learning (`merge.adaptive.adapt.Outcome`) and what the server adds: the figures as
served, what cannot be served any more, and what was published. Not covered: how it is drawn
(`chart`, the command line).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypedDict, cast

if TYPE_CHECKING:
    from merge.adaptive.scoring.scorer import Figures

Metric = Literal["exact_match", "pattern", "loss"]
METRICS: tuple[Metric, ...] = ("exact_match", "pattern", "loss")
_TITLES: Mapping[Metric, str] = {
    "exact_match": "exact match", "pattern": "pattern", "loss": "validation loss",
}  # fmt: skip


class FigureJson(TypedDict):
    """A figure with its 95 % interval; null where it is not finite."""

    value: float | None
    low: float | None
    high: float | None


class FiguresJson(TypedDict):
    """A candidate's figures: shares of the examples, and nats per answer token."""

    exact_match: FigureJson | None
    pattern: FigureJson | None
    loss: FigureJson | None


class BaseServing(TypedDict):
    """The base itself is served."""

    kind: Literal["base"]


class AdapterServing(TypedDict):
    """An adapter that the job made is served."""

    kind: Literal["adapter"]
    folder: str  # below the job's


class RecipeServing(TypedDict):
    """A recipe is merged and served."""

    kind: Literal["recipe"]
    recipe: str  # canonical text
    adapters: dict[str, str]  # by digest, folders of adapters that the job made


class NoServing(TypedDict):
    """The candidate cannot be served."""

    kind: Literal["nothing"]
    reason: str


Serving: TypeAlias = BaseServing | AdapterServing | RecipeServing | NoServing


class ServedJson(TypedDict):
    """What the engine's answers are worth."""

    artifact: str  # the model that the engine was asked for
    figures: FiguresJson
    difference: dict[Metric, float]  # served minus learned


class CandidateJson(TypedDict):
    """A candidate, with what the server adds: `served` and `unservable`."""

    name: str
    title: str
    figures: FiguresJson  # of what was learned
    folded: FiguresJson | None  # of the files that would be served, measured by the job
    energy: float | None
    best_step: int | None
    curve: list[tuple[int, float | None, float | None]]  # step, training loss, validation loss
    members: list[str]
    detail: dict[str, Any]
    seconds: float
    serve: Serving
    served: ServedJson | None
    unservable: str | None  # why


class PublishedJson(TypedDict):
    """Which candidate was published, and the model that requests name."""

    candidate: str
    model: str


class ReportJson(TypedDict):
    """A job's report."""

    job: str
    base: str
    task: str
    method: str
    main: str  # the method's own candidate
    metric: Metric
    ranked: list[str]
    best: str
    sentence: str
    seed: int
    options: dict[str, Any]
    versions: dict[str, str]
    trained_tokens: int
    selected: list[dict[str, Any]]
    seconds: dict[str, float]
    candidates: list[CandidateJson]
    served: str | None  # why the engine did not score the main candidate
    published: PublishedJson | None


class Row(NamedTuple):
    """One candidate in a table."""

    name: str
    title: str
    figures: FiguresJson
    served: FiguresJson | None
    reason: str | None  # why it cannot be served
    published: bool

    def as_served(self, metric: Metric) -> FigureJson | None:
        """Return the figure of the engine's answers, if there is one."""
        return None if self.served is None else self.served[metric]


def title_of(metric: Metric) -> str:
    """Return a metric's name in tables."""
    return _TITLES[metric]


def rows(report: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of a report's table, the best first.

    Args:
        report: a `ReportJson`, such as a server sends it.
    """
    report = cast("ReportJson", report)
    published = None if report["published"] is None else report["published"]["candidate"]
    by_name = {candidate["name"]: candidate for candidate in report["candidates"]}
    for candidate in (by_name[name] for name in report["ranked"]):
        served = candidate["served"]
        yield Row(
            candidate["name"], candidate["title"], candidate["figures"],
            None if served is None else served["figures"],
            candidate["unservable"], candidate["name"] == published,
        )  # fmt: skip


def served_figures(candidate: CandidateJson, artifact: str, figures: "Figures") -> ServedJson:
    """Return a candidate's `served`: the engine's figures, and how far they are from the job's."""
    served = cast("FiguresJson", figures.to_json())
    difference: dict[Metric, float] = {}
    for metric in METRICS:
        ours, theirs = _value(candidate["figures"], metric), _value(served, metric)
        if ours is not None and theirs is not None:
            difference[metric] = theirs - ours
    return {"artifact": artifact, "figures": served, "difference": difference}


def _value(figures: FiguresJson, metric: Metric) -> float | None:
    figure = figures[metric]
    return None if figure is None else figure["value"]


def interval_text(figure: FigureJson | None, metric: Metric) -> str:
    """Return a figure with its interval for a table: shares in percent; empty without a figure."""
    if figure is None:
        return ""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or low is None or high is None:
        return ""
    scale, digits = (1.0, 3) if metric == "loss" else (100.0, 1)
    value, low, high = scale * value, scale * low, scale * high
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
