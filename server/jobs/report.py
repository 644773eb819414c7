"""A job's report: every candidate with its figures, which one to serve, and why.

A report is JSON, stored with the job and sent as it is; these types name its parts, and those that
may be missing are not in reports of releases before them. It holds the
outcome of the learning (`merge.adaptive.adapt.Outcome`) and what the server adds: the figures as
served, what cannot be served any more, and what was published. Not covered: how it is drawn
(`chart`, the command line).
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypeAlias, TypedDict, cast

if TYPE_CHECKING:
    from merge.adaptive.scoring.scored import Figures

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
    figures: FiguresJson  # of folds: theirs, less what the engine loses of what is served
    difference: dict[Metric, float]  # the engine's minus the job's, of the same files


class CandidateJson(TypedDict):
    """A candidate, with what the server adds: `served` and `unservable`."""

    name: str
    title: str
    figures: FiguresJson  # of what was learned
    folded: FiguresJson | None  # of the files that would be served, measured by the job
    refit: NotRequired[FiguresJson | None]  # of folds: what is served, on what it has learned
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


class MeasuredJson(TypedDict):
    """How a job measured."""

    folds: int  # of cross-fitting; 0: on examples that only measure
    estimate: float | None  # seconds that the folds were predicted to take
    fold_seconds: float  # that they took


class ComparisonJson(TypedDict):
    """One candidate against another on the same questions; a gain above 0 is better."""

    ours: str
    theirs: str
    gain: FigureJson  # by the report's metric
    p: float  # one-sided: McNemar's exact test, or the sign-flip test where the metric is the loss
    p_worse: float
    nats: FigureJson
    p_nats: float  # by the sign-flip test
    visible: float  # the smallest gain that so many questions show
    needed: int | None  # questions that show the gain seen
    holm: float | None  # adjusted p; null for the comparisons that were named before


class ReportJson(TypedDict):
    """A job's report."""

    job: str
    base: str
    task: str
    method: str
    main: str  # the method's own candidate
    metric: Metric
    verdict: NotRequired[Literal["better", "worse", "cannot_tell", "too_few"]]
    questions: NotRequired[int]  # that were measured on
    measured: NotRequired[MeasuredJson]
    ranked: list[str]
    order: NotRequired[list[str]]  # what may be served unasked, best first; the base is the last
    best: str
    sentence: str
    comparisons: NotRequired[list[ComparisonJson]]
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
    figures: FiguresJson  # that it was judged by
    served: FiguresJson | None
    comparison: ComparisonJson | None  # with the fresh LoRA, or the base
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
    against = {one["ours"]: one for one in reversed(report.get("comparisons", []))}
    for candidate in (by_name[name] for name in report["ranked"]):
        served = candidate["served"]
        yield Row(
            candidate["name"], candidate["title"], _judged(report, candidate),
            None if served is None else served["figures"], against.get(candidate["name"]),
            candidate["unservable"], candidate["name"] == published,
        )  # fmt: skip


def _judged(report: ReportJson, candidate: CandidateJson) -> FiguresJson:
    """Return what a candidate was judged by: its files', but in reports without a verdict."""
    folded = candidate["folded"] if "verdict" in report else None
    return folded or candidate["figures"]


def how_measured(report: Mapping[str, Any]) -> str | None:
    """Return how a job measured and what it cost as a sentence; None for old reports."""
    report = cast("ReportJson", report)
    if "measured" not in report or "questions" not in report:
        return None
    how, questions = report["measured"], report["questions"]
    took = f"learning and measuring took {sum(report['seconds'].values()):,.0f} s"
    if how["folds"]:
        method = f"{how['folds']}-fold cross-fitting: {questions} questions, each left out of the"
        return f"{method} training that it measures; {took}, {how['fold_seconds']:,.0f} for folds"
    method = f"measured on {questions} questions that no training and no choice saw; {took}"
    if how["estimate"] is None:
        return method
    return f"{method}; folds would take some {how['estimate'] / 3600:.1f} h more (fold_hours)"


def gain_text(comparison: ComparisonJson | None, metric: Metric) -> str:
    """Return a gain with its interval and p for a table; empty without a comparison."""
    if comparison is None:
        return ""
    text = interval_text(comparison["gain"], metric)
    adjusted = comparison["holm"]
    shown = f"p {comparison['p']:.2g}" if adjusted is None else f"Holm's p {adjusted:.2g}"
    return f"{text}, {shown}, to {comparison['theirs']}"


def served_figures(
    candidate: CandidateJson, artifact: str, engine: "Figures", as_served: "Figures"
) -> ServedJson:
    """Return a candidate's `served`.

    Args:
        candidate: with the job's own figures.
        artifact: the model that the engine was asked for.
        engine: of its answers.
        as_served: the job's figures less what the engine loses.
    """
    own = candidate.get("refit") or candidate["folded"] or candidate["figures"]
    answers = cast("FiguresJson", engine.to_json())
    difference: dict[Metric, float] = {}
    for metric in METRICS:
        ours, theirs = _value(own, metric), _value(answers, metric)
        if ours is not None and theirs is not None:
            difference[metric] = theirs - ours
    figures = cast("FiguresJson", as_served.to_json())
    return {"artifact": artifact, "figures": figures, "difference": difference}


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
