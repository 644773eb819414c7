"""The verdict: which candidate is served, how sure that is, and the sentence that says so."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from merge.adaptive.candidates import Candidate, Kind, Serving, dump_measured, load_measured
from merge.adaptive.scoring.scored import Scored
from merge.adaptive.verdict import FEWEST, Verdict, judge

N = 40


def scored(right: int, loss: float, n: int = N, found: Sequence[bool] | None = None) -> Scored:
    """Return scores with this many right answers, the first ones, and equal losses."""
    marks = tuple(at < right for at in range(n))
    return Scored((loss,) * n, (1,) * n, marks, None if found is None else tuple(found))


def candidate(
    name: str, right: int, loss: float = 1.0, kind: Kind = "recipe", n: int = N,
    found: Sequence[bool] | None = None,
) -> Candidate:  # fmt: skip
    """Return a candidate that answers this many of n examples correctly."""
    return Candidate(name, name, scored(right, loss, n, found), Serving(kind, reason="why not"))


BASE = candidate("base", 4, 5.0, "base")


def fresh(right: int, loss: float = 1.0, n: int = N) -> Candidate:
    """Return the fresh LoRA."""
    return candidate("fresh_lora", right, loss, "adapter", n)


def verdict(*others: Candidate, base: Candidate = BASE) -> Verdict:
    """Return the verdict on these and a base."""
    n = len(base.scored.nll)
    result = judge([base, *others], "recycle", questions=range(n), seed=0)
    assert "base" == result.order[-1]
    return result


def test_a_clear_lead_over_the_fresh_lora_is_served() -> None:
    """The method's candidate is served if its lead is beyond chance, and the LoRA is the next."""
    result = verdict(fresh(20), candidate("recycle", 35))

    assert ("better", ("recycle", "fresh_lora", "base")) == (result.kind, result.order)
    assert result.sentence.startswith("serve recycle: on 40 questions it adds +37.5 ± ")
    assert result.sentence.endswith("points (p < 0.0001) to the fresh LoRA")


def test_what_chance_can_do_is_no_verdict() -> None:
    """A small lead is "cannot tell": the sentence has the lead, the smallest that could have been
    seen, how many questions would tell, and what the fresh LoRA adds to the base."""
    result = verdict(fresh(30), candidate("recycle", 31))

    assert ("cannot_tell", ("fresh_lora", "base")) == (result.kind, result.order)
    assert result.sentence.startswith(
        "cannot tell recycle from the fresh LoRA: it adds +2.5 ± 6.6 points (p = 0.5); a gain "
        "below 23 points cannot be seen with 40 questions, and this one would take about 650: "
        "serve the fresh LoRA, +65.0 ± "
    )
    assert result.sentence.endswith(" over the base")


def test_a_worse_pool_is_called_worse() -> None:
    """If the fresh LoRA is better beyond chance, the sentence says so."""
    result = verdict(fresh(35), candidate("recycle", 10))

    assert ("worse", "fresh_lora") == (result.kind, result.best)
    assert result.sentence.startswith(
        "the fresh LoRA is better than recycle, which adds -62.5 ± 15.6 points (p < 0.0001)"
    )


def test_the_base_is_served_where_nothing_beats_it() -> None:
    """The base is served if neither answers nor nats of the fresh LoRA are better."""
    result = verdict(fresh(4, 5.0), candidate("recycle", 5, 5.0))

    assert ("cannot_tell", ("base",)) == (result.kind, result.order)
    assert result.sentence.startswith("cannot tell the fresh LoRA from the base: it adds +0.0 ± ")
    assert result.sentence.endswith("cannot be seen with 40 questions: serve the base")


def test_a_fresh_lora_worse_than_the_base_is_never_served() -> None:
    """A method that is no better than a LoRA that is no better than the base is not served, nor
    is that LoRA: .40, .35 and .60 of 20 answers are what chance does."""
    base = candidate("base", 8, kind="base", n=20)
    result = verdict(fresh(7, n=20), candidate("recycle", 12, n=20), base=base)

    assert ("base",) == result.order
    assert "fresh_lora" not in verdict(fresh(2), candidate("recycle", 38), base=BASE).order


def test_a_method_may_pass_the_base_where_the_fresh_lora_does_not() -> None:
    """What is better than both is served, though the LoRA is no better than the base."""
    assert ("recycle", "base") == verdict(fresh(3, 6.0), candidate("recycle", 38)).order


def test_fewer_nats_are_enough_over_the_base() -> None:
    """As many right answers and fewer nats beyond chance beat the base; the sentence has both."""
    result = verdict(fresh(4, 2.0), candidate("recycle", 4, 2.0))

    assert "fresh_lora" == result.best
    assert "+0.0 ± 4.7 points and +3.000 ± 0.000 nats per token (p = 0.0002)" in result.sentence


def test_fewer_nats_do_not_make_up_for_wrong_answers() -> None:
    """A candidate with fewer correct answers than the base is not served, whatever its nats; nor
    is the method over the fresh LoRA for its nats alone."""
    assert "base" == verdict(fresh(3, 0.1), candidate("recycle", 3, 0.2)).best
    assert "fresh_lora" == verdict(fresh(30, 1.0), candidate("recycle", 30, 0.1)).best


def test_what_would_be_served_is_judged() -> None:
    """Files that answer nothing are not served, however well the method did before it was folded
    into them."""
    learned = candidate("recycle", 36)
    spoilt = replace(learned, folded=scored(0, 9.0))
    result = verdict(fresh(20), spoilt)

    assert "recycle" == verdict(fresh(20), learned).best
    assert ("worse", "fresh_lora", "recycle") == (result.kind, result.best, result.ranked[-1])


@pytest.mark.parametrize("n", [2, FEWEST - 1])
def test_too_few_questions_are_no_verdict(n: int) -> None:
    """Below twenty questions nothing is said, whatever was measured: the base is served."""
    base = candidate("base", 0, 9.0, "base", n)
    result = verdict(fresh(1, n=n), candidate("recycle", n, n=n), base=base)

    assert ("too_few", ("base",)) == (result.kind, result.order)
    assert (
        f"no verdict, for {n} questions were measured on and 20 are the fewest" in result.sentence
    )


def test_examples_of_one_question_are_one() -> None:
    """Thirty answers to one question tell no more than one answer."""
    candidates = [BASE, fresh(4), candidate("recycle", 34)]
    questions = [*range(4), *[4] * 30, *range(5, 11)]
    result = judge(candidates, "recycle", questions=questions, seed=0)

    assert (11, "too_few") == (result.questions, result.kind)
    assert result.comparisons[0].gain.value == pytest.approx(1 / 11)


def test_a_better_pool_that_cannot_be_served_is_mentioned() -> None:
    """If the method's candidate beats the fresh LoRA and cannot be served, both are named."""
    result = verdict(fresh(20), candidate("recycle", 38, kind="nothing"))

    assert ("fresh_lora", "base") == result.order
    assert result.sentence.startswith("recycle would add +45.0 ± ")
    assert result.sentence.endswith("and cannot be served: serve the fresh LoRA")


def test_controls_are_described_and_not_served() -> None:
    """A control that does best is not served unasked; its p is adjusted for the others'."""
    others = [candidate("average", 39), candidate("best_single", 22)]
    result = verdict(fresh(20), candidate("recycle", 21), *others)
    told = {each.ours: each for each in result.comparisons if each.theirs == "fresh_lora"}

    assert ("average", "fresh_lora") == (result.ranked[0], result.best)
    assert told["average"].holm == 2 * told["average"].p
    assert told["best_single"].holm == told["best_single"].p
    assert told["recycle"].holm is None


def test_where_nothing_matches_nats_are_compared_by_token() -> None:
    """The lead in loss is Σ nats over Σ answer tokens, tested by flipping signs."""

    def of(name: str, kind: Kind, nats: float) -> Candidate:
        return Candidate(name, name, Scored((nats,) * N, (4,) * N, (False,) * N, None),
                         Serving(kind))  # fmt: skip

    result = verdict(of("recycle", "recipe", 6.0), base=of("base", "base", 20.0))

    assert ("loss", "recycle") == (result.metric, result.best)
    assert result.sentence.endswith("+3.500 ± 0.000 nats per token (p = 0.0002) to the base")


def test_candidates_with_equal_answers_are_ranked_by_loss() -> None:
    """Of candidates with as many correct answers, the one with the smaller loss is first."""
    result = verdict(candidate("x", 30, 2.0), candidate("recycle", 30, 1.0))

    assert ("recycle", "x", "base") == result.ranked
    assert "recycle" == result.best


def test_without_a_fresh_lora_the_base_is_the_measure() -> None:
    """If no fresh LoRA was trained, the sentence compares with the base."""
    result = verdict(candidate("recycle", 30))

    assert ("recycle", "base") == result.order
    assert result.sentence.startswith("serve recycle: on 40 questions it adds +65.0 ± ")
    assert result.sentence.endswith("to the base")


@pytest.mark.parametrize(
    ("right", "found", "metric"),
    [(30, [True] * N, "pattern"), (30, None, "exact_match"), (0, None, "loss")],
)
def test_the_metric_is_what_tells_candidates_apart(
    right: int, found: list[bool] | None, metric: str
) -> None:
    """The metric is the pattern if there is one, else exact matches, or the loss if none match."""
    none = None if found is None else [False] * N
    base = candidate("base", 0, 5.0, "base", found=none)
    result = verdict(candidate("recycle", right, 1.0, found=found), base=base)

    assert (metric, "recycle", ("recycle", "base")) == (result.metric, result.best, result.ranked)


def test_candidates_read_back(tmp_path: Path) -> None:
    """Candidates and their examples' questions read back unchanged; older jobs have none."""
    servings = (
        Serving("base"), Serving("adapter", folder="candidates/x"),
        Serving("recipe", recipe="{}", adapters={"d": "f"}), Serving("nothing", reason="noise"),
    )  # fmt: skip
    made = tuple(
        Candidate(
            f"x{at}", "X", BASE.scored, serving, folded=BASE.scored, refit=BASE.scored,
            choice_loss=0.7, energy=0.5, best_step=3, curve=((1, 2.0, None), (2, 1.0, 1.5)),
            members=("a@1",), detail={"scale": 2.0},
        ).taking(1.23456)
        for at, serving in enumerate(servings)
    )  # fmt: skip

    assert load_measured(tmp_path) is None
    dump_measured(tmp_path, made, [0, 0, 1])
    assert (made, (0, 0, 1)) == load_measured(tmp_path)
    assert 1.235 == made[0].seconds
