"""Answers, intervals, scores: what figures are made of."""

import numpy as np
import pytest

from merge.adaptive.answers import agrees, matches, normalise
from merge.adaptive.bootstrap import bootstrap, difference
from merge.adaptive.losses import Losses
from merge.adaptive.scoring import figures, mark
from tests.merge.adaptive.small import random_examples


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" New York. ", "newyork"),
        ("so 3 * 4 = 12\n#### 12.", "12"),
        ("a.b..", "a.b"),
        ("", ""),
        ("####", ""),
    ],
)
def test_normalisation_is_the_papers(text: str, expected: str) -> None:
    """Spaces, a full stop at the end and case do not count; `####` begins the answer."""
    assert expected == normalise(text)


def test_matches() -> None:
    """Equal after normalisation, both sides."""
    assert matches("YES.", "yes")
    assert not matches("yes and no", "yes")


def test_patterns_compare_what_they_find() -> None:
    """The first group, or all that was matched; nothing agrees with nothing."""
    assert agrees(r"answer: (\w+)", "I say answer: B because", "answer: B")
    assert not agrees(r"answer: (\w+)", "answer: A", "answer: B")
    assert agrees(r"\d+", "it is 42", "42")
    assert not agrees(r"\d+", "none", "42")
    assert agrees(r"\d+", "none", "nil")


def test_intervals_cover_the_truth_nineteen_times_in_twenty() -> None:
    """Of many samples of a known mean, about 95 % of intervals hold it."""
    rng = np.random.default_rng(1)
    held = 0
    for at in range(300):
        found = bootstrap(rng.exponential(2.0, 60).tolist(), seed=at)
        held += found.low <= 2.0 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_ratios_are_of_sums() -> None:
    """With weights the figure is Σ values / Σ weights, not the mean of ratios."""
    assert 2.0 == bootstrap([2.0, 18.0], weights=[1.0, 9.0], seed=0).value
    constant = bootstrap([2.0, 18.0], weights=[1.0, 9.0], seed=0)
    assert (2.0, 2.0) == (constant.low, constant.high)


def test_differences_are_paired() -> None:
    """What both share cancels: a constant lead is certain, however much examples differ."""
    rng = np.random.default_rng(2)
    theirs = rng.normal(0, 10, 40)
    found = difference((theirs + 0.5).tolist(), theirs.tolist(), seed=0)

    assert found.is_clear
    assert found.half < 1e-9
    assert found.value == pytest.approx(0.5)


def test_the_same_seed_gives_the_same_interval() -> None:
    """Intervals are repeatable, and of a single example they are a point."""
    values = [at**1.5 for at in range(12)]
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)
    assert (1.0, 1.0, 1.0) == bootstrap([1.0], seed=0)


def test_marks_and_figures() -> None:
    """Answers are marked by both measures; the pattern, if there is one, is the accuracy."""
    examples = random_examples(3, seed=1)  # each with the answer "answer"
    losses = Losses((2.0, 4.0, 6.0), (1, 2, 3))
    scored = mark(losses, ["Answer.", "answer 7", "x"], examples, r"answer")
    plain = mark(losses, ["Answer.", "answer 7", "x"], examples, None)

    assert (True, False, False) == scored.right
    assert (False, True, False) == scored.found
    assert (2.0, 1 / 3) == (scored.loss, plain.accuracy)
    told = figures(scored, seed=0).to_json()
    assert told["loss"]["value"] == pytest.approx(2.0)
    assert told["pattern"]["value"] == pytest.approx(1 / 3)
    assert figures(plain, seed=0).pattern is None
