"""The verdict: which candidate is served, and the sentence that says why."""

from collections.abc import Sequence

import pytest

from merge.adaptive.candidates import Candidate, Kind, Serving
from merge.adaptive.scoring.scorer import Scored
from merge.adaptive.verdict import judge

N = 40


def candidate(
    name: str, right: int, loss: float = 1.0, kind: Kind = "recipe",
    found: Sequence[bool] | None = None,
) -> Candidate:  # fmt: skip
    """Return a candidate that answers this many of N examples correctly."""
    marks = tuple(at < right for at in range(N))
    scored = Scored((loss,) * N, (1,) * N, marks, None if found is None else tuple(found))
    return Candidate(name, name, scored, Serving(kind, reason="why not"))


BASE = candidate("base", 4, 5.0, "base")


def verdict(*others: Candidate, main: str = "recycle") -> tuple[str, str]:
    """Return the best candidate's name and the sentence."""
    found = judge([BASE, *others], main, seed=0)
    assert found.best in {each.name for each in (BASE, *others)}
    return found.best, found.sentence


def test_a_clear_lead_over_the_fresh_lora_is_served() -> None:
    """The method's candidate is served if its lead is significant."""
    best, said = verdict(candidate("fresh_lora", 20, kind="adapter"), candidate("recycle", 35))

    assert "recycle" == best
    assert said.startswith("serve recycle: it adds +37.5 ± ")
    assert said.endswith("points to the fresh LoRA")


def test_a_lead_that_may_be_chance_is_not() -> None:
    """If the method's lead is not significant, the fresh LoRA is served; the sentence has the
    lead."""
    best, said = verdict(candidate("fresh_lora", 30, kind="adapter"), candidate("recycle", 31))

    assert "fresh_lora" == best
    assert said.startswith("the fresh LoRA is as good: serve it; the pool adds +2.5 ± ")


def test_a_worse_pool_is_called_worse() -> None:
    """If the fresh LoRA is significantly better, the sentence says so."""
    best, said = verdict(candidate("fresh_lora", 35, kind="adapter"), candidate("recycle", 10))

    assert "fresh_lora" == best
    assert said.startswith("the fresh LoRA is better: serve it; the pool adds -62.5 ± ")


def test_the_base_is_served_where_nothing_beats_it() -> None:
    """The base is served if no candidate has more correct answers or a smaller loss."""
    best, said = verdict(candidate("fresh_lora", 4, 5.0, "adapter"), candidate("recycle", 5, 5.0))

    assert "base" == best
    assert said.startswith("nothing clearly beats the base: serve it; recycle adds +2.5 ± ")


def test_a_smaller_loss_is_enough_over_the_base() -> None:
    """A candidate with equal accuracy and a significantly smaller loss beats the base."""
    assert "fresh_lora" == verdict(
        candidate("fresh_lora", 4, 2.0, "adapter"), candidate("recycle", 4, 2.0)
    )[0]  # fmt: skip


def test_a_smaller_loss_does_not_make_up_for_wrong_answers() -> None:
    """A candidate with fewer correct answers than the base is not served, whatever its loss."""
    best, sentence = verdict(
        candidate("fresh_lora", 3, 0.1, "adapter"), candidate("recycle", 3, 0.2)
    )

    assert "base" == best
    assert sentence.startswith("nothing clearly beats the base: serve it; fresh_lora adds -2.5 ± ")


def test_a_better_pool_that_cannot_be_served_is_mentioned() -> None:
    """If only the method's candidate beats the fresh LoRA and cannot be served, both are named."""
    best, sentence = verdict(
        candidate("fresh_lora", 20, kind="adapter"), candidate("recycle", 38, kind="nothing")
    )

    assert "fresh_lora" == best
    assert sentence.startswith(
        "the best that can be served is the fresh LoRA; the pool would add +45.0"
    )


def test_the_base_is_served_where_nothing_better_can_be() -> None:
    """If what beats the base cannot be served, the sentence does not say that nothing beats it."""
    best, sentence = verdict(candidate("recycle", 38, kind="nothing"))

    assert "base" == best
    assert sentence.startswith(
        "nothing that can be served clearly beats the base: serve it; recycle"
    )


def test_where_nothing_matches_losses_are_compared_by_token() -> None:
    """The lead in loss is Σ nats over Σ answer tokens, in nats per token."""

    def scored(name: str, kind: Kind, nats: float) -> Candidate:
        scores = Scored((nats,) * N, (4,) * N, (False,) * N, None)
        return Candidate(name, name, scores, Serving(kind))

    base, ours = scored("base", "base", 20.0), scored("recycle", "recipe", 6.0)
    result = judge([base, ours], "recycle", seed=0)

    assert ("loss", "recycle") == (result.metric, result.best)
    assert result.sentence.endswith("it adds +3.500 ± 0.000 nats per token to the base")


def test_candidates_with_equal_answers_are_ranked_by_loss() -> None:
    """Of candidates with as many correct answers, the one with the smaller loss is first."""
    result = judge(
        [BASE, candidate("x", 30, 2.0), candidate("recycle", 30, 1.0)], "recycle", seed=0
    )

    assert ("recycle", "x", "base") == result.ranked
    assert "recycle" == result.best


def test_without_a_reality_check_the_base_is_the_measure() -> None:
    """If no fresh LoRA was trained, the sentence compares with the base."""
    best, said = verdict(candidate("recycle", 30))

    assert "recycle" == best
    assert said.startswith("serve recycle: it adds +65.0 ± ")
    assert said.endswith("to the base")


def test_what_cannot_be_served_is_never_best() -> None:
    """A control that cannot be served is never the best, even if it leads."""
    best, said = verdict(
        candidate("fresh_lora", 20, kind="adapter"), candidate("recycle", 21),
        candidate("random_parameters", 38, kind="nothing"),
    )  # fmt: skip

    assert "fresh_lora" == best
    assert "as good" in said


@pytest.mark.parametrize(
    ("right", "found", "metric"),
    [(3, [True] * N, "pattern"), (3, None, "exact_match"), (0, None, "loss")],
)
def test_the_metric_is_what_tells_candidates_apart(
    right: int, found: list[bool] | None, metric: str
) -> None:
    """The metric is the pattern if there is one, else exact matches, or the loss if none match."""
    none = None if found is None else [False] * N
    base = candidate("base", 0, 5.0, "base", none)
    verdict = judge([base, candidate("recycle", right, 1.0, found=found)], "recycle", seed=0)

    assert (metric, "recycle", ("recycle", "base")) == (
        verdict.metric, verdict.best, verdict.ranked,
    )  # fmt: skip


def test_candidates_read_back() -> None:
    """A candidate reads back unchanged from its JSON."""
    for kind in ("base", "adapter", "recipe", "nothing"):
        serving = {
            "base": Serving("base"),
            "adapter": Serving("adapter", folder="candidates/x"),
            "recipe": Serving("recipe", recipe="{}", adapters={"d": "f"}),
            "nothing": Serving("nothing", reason="noise"),
        }[kind]
        one = Candidate(
            "x", "X", BASE.scored, serving, folded=BASE.scored, energy=0.5, best_step=3,
            curve=((1, 2.0, None), (2, 1.0, 1.5)), members=("a@1",), detail={"scale": 2.0},
        ).taking(1.23456)  # fmt: skip
        assert one == Candidate.from_json(one.to_json())
        assert 1.235 == one.seconds
