"""The verdict: which candidate to serve, and a sentence that says how sure that is.

One comparison is named before anything is measured: the method against the fresh LoRA. The method
is served if it is better beyond chance, and one of the two is better than the base; else the LoRA,
if it is better than the base; else the base. Answers are compared by McNemar's exact test where any
answer matches, and nats by the sign-flip test where none does. Against the base as many right
answers and fewer nats are better, too, and Holm's p of both tests decides. Whatever else was
measured is described, with Holm's p, and never served unasked. In the lab the method takes nats off
the LoRA in 13 of 15 units and adds answers in 8: nats alone do not decide where answers can.
Not covered: what was measured, and on which questions (`crossfit`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from merge.adaptive.candidates import Candidate
from merge.adaptive.scoring.bootstrap import Interval, difference
from merge.adaptive.scoring.paired import (
    ALPHA,
    holm,
    mcnemar,
    needed_for_mean,
    needed_for_share,
    share_gain,
    sign_flip,
    visible_mean,
    visible_share,
)
from merge.adaptive.scoring.scored import Scored

Metric = Literal["exact_match", "pattern", "loss"]
Kind = Literal["better", "worse", "cannot_tell", "too_few"]
BASE, FRESH = "base", "fresh_lora"
FEWEST = 20  # questions: with fewer there is no verdict


class Comparison(NamedTuple):
    """One candidate against another on the same questions."""

    ours: str
    theirs: str
    gain: Interval  # a share of the answers, or nats per answer token; above 0 is better
    p: float  # one-sided, of "ours is not better"
    p_worse: float  # one-sided, of "ours is not worse"
    nats: Interval  # the gain in nats per answer token
    p_nats: float  # one-sided, of the same
    visible: float  # the smallest gain that so many questions show
    needed: int | None  # how many questions show the gain seen; None without one
    holm: float | None = None  # adjusted p; None for the comparison that was named before

    @property
    def is_better(self) -> bool:
        """Whether ours is better beyond chance."""
        return self.p_decides <= ALPHA

    @property
    def p_decides(self) -> float:
        """The p of the method's comparison with the LoRA; over the base Holm's of answers and nats.

        Nats count only where there are no fewer right answers.
        """
        if self.theirs != BASE or self.gain.value < 0:
            return self.p
        return min(1.0, 2 * min(self.p, self.p_nats))

    @property
    def is_worse(self) -> bool:
        """Whether ours is worse beyond chance."""
        return self.p_worse <= ALPHA

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self._asdict(), "gain": self.gain._asdict(), "nats": self.nats._asdict()}


class Verdict(NamedTuple):
    """The result of a comparison."""

    metric: Metric  # that candidates are ranked by
    kind: Kind  # of the comparison that the sentence is about
    questions: int  # that were measured on
    ranked: tuple[str, ...]  # names, best figures first
    order: tuple[str, ...]  # names of what may be served, the simplest last: the base
    sentence: str
    comparisons: tuple[Comparison, ...]

    @property
    def best(self) -> str:
        """What should be served."""
        return self.order[0]

    def to_json(self) -> dict[str, Any]:
        """Return its part of a report as JSON values."""
        return {
            "metric": self.metric, "verdict": self.kind, "questions": self.questions,
            "ranked": list(self.ranked), "order": list(self.order), "best": self.best,
            "sentence": self.sentence,
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
        }  # fmt: skip


class _Marks(NamedTuple):
    """A candidate's judged scores by question, (n,) each."""

    answers: NDArray[np.float64]  # the share of a question's examples that are right
    nats: NDArray[np.float64]  # summed over a question's examples
    tokens: NDArray[np.float64]  # of their answers


def judge(
    candidates: Sequence[Candidate], main: str, *, questions: Sequence[int], seed: int
) -> Verdict:
    """Return the verdict on candidates that were scored on the same examples.

    Args:
        candidates: with a base among them; their `judged` scores count.
        main: the name of the method's own.
        questions: a number for each example, equal for those that ask the same.
        seed: of what is drawn for tests and intervals.
    """
    metric = _metric(candidates)
    ranked = sorted(candidates, key=lambda candidate: _rank(candidate, metric))
    court = _Court(candidates, metric, questions, seed)
    by_name = {candidate.name: candidate for candidate in candidates}
    gates = [court.compare(name, BASE) for name in (FRESH, main) if name in by_name]
    named = court.compare(main, FRESH) if FRESH in by_name else gates[-1]
    count = len(set(questions))
    order: tuple[str, ...] = (BASE,)
    kind, sentence = _too_few(count)
    if count >= FEWEST:
        order = _order(by_name, named, gates)
        kind, sentence = _sentence(order, by_name[main], named, gates, metric, count)
    rest = [court.compare(name, named.theirs) for name in by_name if name not in
            (main, BASE, FRESH)]  # fmt: skip
    adjusted = holm([comparison.p for comparison in rest])
    described = [one._replace(holm=p) for one, p in zip(rest, adjusted, strict=True)]
    names = tuple(candidate.name for candidate in ranked)
    comparisons = (*dict.fromkeys([named, *gates]), *described)
    return Verdict(metric, kind, count, names, order, sentence, comparisons)


class _Court:
    """Compares candidates by one metric."""

    def __init__(
        self, candidates: Sequence[Candidate], metric: Metric, questions: Sequence[int], seed: int
    ) -> None:
        self._metric, self._seed = metric, seed
        self._marks = {
            candidate.name: _by_question(candidate.judged, metric, questions)
            for candidate in candidates
        }

    def compare(self, ours: str, theirs: str) -> Comparison:
        """Return the comparison of two candidates by their names."""
        mine, other = self._marks[ours], self._marks[theirs]
        saved = other.nats - mine.nats
        nats = difference(
            (-mine.nats).tolist(), (-other.nats).tolist(), weights=mine.tokens.tolist(),
            seed=self._seed,
        )  # fmt: skip
        p_nats = sign_flip(saved, seed=self._seed)
        if self._metric == "loss":
            tokens = float(mine.tokens.mean())
            return Comparison(
                ours, theirs, nats, p_nats, sign_flip(-saved, seed=self._seed), nats, p_nats,
                visible_mean(saved) / tokens if len(saved) > 1 else 0.0, needed_for_mean(saved),
            )  # fmt: skip
        gaps = mine.answers - other.answers
        return Comparison(
            ours, theirs, share_gain(gaps), mcnemar(gaps), mcnemar(-gaps), nats, p_nats,
            visible_share(gaps), needed_for_share(gaps),
        )  # fmt: skip


def _by_question(scored: Scored, metric: Metric, questions: Sequence[int]) -> _Marks:
    numbers = np.unique(questions, return_inverse=True)[1]

    def summed(values: Sequence[float]) -> NDArray[np.float64]:
        return np.bincount(numbers, np.asarray(values, np.float64)).astype(np.float64)

    return _Marks(
        summed(_matches(scored, metric)) / np.bincount(numbers), summed(scored.nll),
        summed(scored.tokens),
    )  # fmt: skip


def _metric(candidates: Sequence[Candidate]) -> Metric:
    """Return the pattern if it ever matches, else exact match, else (nothing matches) the loss."""
    scores = [candidate.judged for candidate in candidates]
    if any(scored.pattern_match is not None and any(scored.pattern_match) for scored in scores):
        return "pattern"
    return "exact_match" if any(any(scored.exact_match) for scored in scores) else "loss"


def _matches(scored: Scored, metric: Metric) -> Sequence[bool]:
    return scored.pattern_match if metric == "pattern" and scored.pattern_match else (
        scored.exact_match
    )  # fmt: skip


def _rank(candidate: Candidate, metric: Metric) -> tuple[float, float]:
    matches = _matches(candidate.judged, metric)
    return (-sum(matches) / len(matches) if metric != "loss" else 0.0, candidate.judged.loss)


def can_serve(candidate: Candidate) -> bool:
    """Whether a candidate has something to serve."""
    return candidate.serving.kind != "nothing"


def _order(
    by_name: Mapping[str, Candidate], named: Comparison, gates: Sequence[Comparison]
) -> tuple[str, ...]:
    """Return what may be served: the method, the fresh LoRA, the base; each if it is better."""
    over_base = [gate.ours for gate in gates if gate.is_better]
    ours = [named.ours] if named.is_better and over_base else []
    simple = [FRESH] if FRESH in over_base else []
    return (*(name for name in (*ours, *simple) if can_serve(by_name[name])), BASE)


def _too_few(count: int) -> tuple[Kind, str]:
    why = f"{count} questions were measured on and {FEWEST} are the fewest that tell anything"
    return "too_few", f"no verdict, for {why}: serve the base"


def _sentence(
    order: Sequence[str],
    main: Candidate,
    named: Comparison,
    gates: Sequence[Comparison],
    metric: Metric,
    count: int,
) -> tuple[Kind, str]:
    """Return the kind of verdict and its sentence."""
    best = order[0]
    serve = f"serve {_the(best)}"
    # What the fresh LoRA did not get past is what the sentence is about.
    pair = gates[0] if best == BASE else named
    adds = f"{_gain(pair, metric)} to {_the(pair.theirs)}"
    if pair.is_better and best == pair.ours:
        return "better", f"{serve}: on {count} questions it adds {adds}"
    if pair.is_better and not can_serve(main):
        return "better", f"{main.name} would add {adds}, and cannot be served: {serve}"
    if pair.is_worse:
        better = f"{_the(pair.theirs)} is better than {_the(pair.ours)}"
        return "worse", f"{better}, which adds {adds} on {count} questions: {serve}"
    unclear = _unclear(pair, metric, count)
    if best == FRESH:  # then it is better than the base, by the first gate
        return "cannot_tell", f"{unclear}: {serve}, {_gain(gates[0], metric)} over the base"
    return "cannot_tell", f"{unclear}: {serve}"


def _unclear(pair: Comparison, metric: Metric, count: int) -> str:
    """Say what was seen, what could have been seen, and what it would take."""
    seen = f"cannot tell {_the(pair.ours)} from {_the(pair.theirs)}: it adds "
    seen += f"{_gain(pair, metric)}; a gain below {_size(pair.visible, metric)} cannot be "
    seen += f"seen with {count} questions"
    if pair.needed is None:
        return seen
    return f"{seen}, and this one would take about {_about(max(pair.needed, count + 1)):,}"


def _about(number: int) -> int:
    """Return a number with two digits that count."""
    return round(number, min(0, 2 - len(str(number))))


def _the(name: str) -> str:
    return {BASE: "the base", FRESH: "the fresh LoRA"}.get(name, name)


def _gain(pair: Comparison, metric: Metric) -> str:
    """Return a gain with its interval and the p that decides, or that of a loss."""
    p = min(pair.p_decides, pair.p_worse)
    if metric == "loss":
        return f"{_nats(pair)} ({_p(p)})"
    points = f"{100 * pair.gain.value:+.1f} ± {100 * pair.gain.half:.1f} points"
    beside = f" and {_nats(pair)}" if pair.theirs == BASE else ""
    return f"{points}{beside} ({_p(p)})"


def _nats(pair: Comparison) -> str:
    return f"{pair.nats.value:+.3f} ± {pair.nats.half:.3f} nats per token"


def _p(p: float) -> str:
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _size(gain: float, metric: Metric) -> str:
    return f"{gain:.3f} nats per token" if metric == "loss" else f"{100 * gain:.0f} points"
