"""The verdict: which candidate to serve, and a sentence with the reason.

The simplest candidate that no servable one beats significantly: the base, else the freshly trained
LoRA, else the best of those that lead both significantly. Differences are paired bootstrap
intervals on the validation examples.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from merge.adaptive.candidates import Candidate
from merge.adaptive.scoring.bootstrap import Interval, difference

Metric = Literal["exact_match", "pattern", "loss"]
BASE, FRESH = "base", "fresh_lora"


class Verdict(NamedTuple):
    """The result of a comparison."""

    metric: Metric  # that candidates are ranked by
    ranked: tuple[str, ...]  # names, best first
    best: str  # that should be served; always one that can be
    sentence: str


def judge(candidates: Sequence[Candidate], main: str, *, seed: int) -> Verdict:
    """Return the verdict on candidates that were scored on the same examples.

    Args:
        candidates: with a base among them.
        main: the name of the method's own.
        seed: of the intervals.
    """
    metric = _metric(candidates)
    ranked = sorted(candidates, key=lambda each: _key(each, metric))
    best = _simplest([each for each in ranked if _can_serve(each)], metric, seed)
    sentence = _sentence(best, ranked, main, metric, seed)
    return Verdict(metric, tuple(each.name for each in ranked), best.name, sentence)


def _can_serve(candidate: Candidate) -> bool:
    return candidate.serving.kind != "nothing"


def _simplest(able: Sequence[Candidate], metric: Metric, seed: int) -> Candidate:
    """Return the base or the fresh LoRA if nothing beats it, else the best of what beats both."""
    by_name = {each.name: each for each in able}
    rivals = able
    for simple in filter(None, map(by_name.get, (BASE, FRESH))):
        better = [each for each in rivals if _beats(each, simple, metric, seed)]
        if not better:
            return simple
        rivals = better
    return rivals[0]


def _metric(candidates: Sequence[Candidate]) -> Metric:
    """Return the pattern if it ever matches, else exact match, else (nothing matches) the loss."""
    scores = [candidate.scored for candidate in candidates]
    if any(scored.pattern_match is not None and any(scored.pattern_match) for scored in scores):
        return "pattern"
    return "exact_match" if any(any(scored.exact_match) for scored in scores) else "loss"


def _key(candidate: Candidate, metric: Metric) -> tuple[float, float]:
    values = _values(candidate, metric)
    return (-sum(values) / len(values), candidate.scored.loss)


def _values(candidate: Candidate, metric: Metric) -> Sequence[float]:
    """Return one number for each example, (n,); larger is better."""
    scored = candidate.scored
    if metric == "loss":
        return [-value for value in scored.nll]
    if metric == "exact_match" or scored.pattern_match is None:
        return scored.exact_match
    return scored.pattern_match


def compare(ours: Candidate, theirs: Candidate, metric: Metric, *, seed: int) -> Interval:
    """Return the lead of `ours` over `theirs`: a share of examples, or nats per answer token."""
    weights = ours.scored.tokens if metric == "loss" else None
    return difference(_values(ours, metric), _values(theirs, metric), weights=weights, seed=seed)


def _beats(ours: Candidate, theirs: Candidate, metric: Metric, seed: int) -> bool:
    """Whether ours is better beyond chance; over the base, no worse and a smaller loss will do."""
    found = compare(ours, theirs, metric, seed=seed)
    if theirs.name != BASE or found.low > 0.0:
        return found.low > 0.0
    return found.value >= 0.0 and compare(ours, theirs, "loss", seed=seed).low > 0.0


def _sentence(
    best: Candidate, ranked: Sequence[Candidate], main: str, metric: Metric, seed: int
) -> str:
    by_name = {each.name: each for each in ranked}
    ours, fresh, base = by_name[main], by_name.get(FRESH), by_name[BASE]
    if best.name == BASE:
        leader = next(each for each in ranked if each in (ours, fresh))
        is_beaten = any(_beats(each, base, metric, seed) for each in ranked)
        nothing = "nothing that can be served" if is_beaten else "nothing"
        gap = _gap(leader, base, metric, seed)
        return f"{nothing} clearly beats the base: serve it; {leader.name} adds {gap}"
    if fresh is None:
        return f"serve {best.name}: it adds {_gap(best, base, metric, seed)} to the base"
    if best.name == FRESH:
        gap = _gap(ours, fresh, metric, seed)
        if not _can_serve(ours) and _beats(ours, fresh, metric, seed):
            return f"the best that can be served is the fresh LoRA; the pool would add {gap}"
        is_worse = compare(ours, fresh, metric, seed=seed).high < 0.0
        claim = "is better" if is_worse else "is as good"
        return f"the fresh LoRA {claim}: serve it; the pool adds {gap}"
    return f"serve {best.name}: it adds {_gap(best, fresh, metric, seed)} to the fresh LoRA"


def _gap(ours: Candidate, theirs: Candidate, metric: Metric, seed: int) -> str:
    lead = compare(ours, theirs, metric, seed=seed)
    if metric == "loss":
        return f"{lead.value:+.3f} ± {lead.half:.3f} nats per token"
    return f"{100 * lead.value:+.1f} ± {100 * lead.half:.1f} points"
