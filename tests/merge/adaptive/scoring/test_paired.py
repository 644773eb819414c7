"""Tests of differences: exact p, honest intervals, and what can be seen."""

import math
from functools import cache

import numpy as np
import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]  # scikit-learn brings it; no types

from merge.adaptive.scoring.paired import (
    ALPHA,
    Gaps,
    holm,
    mcnemar,
    needed_for_mean,
    needed_for_share,
    share_gain,
    sign_flip,
    visible_mean,
    visible_share,
)


def gaps(wins: int, losses: int, n: int) -> Gaps:
    """Return the gaps of n questions with so many wins and losses."""
    return np.array([1.0] * wins + [-1.0] * losses + [0.0] * (n - wins - losses))


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (4, 0), (6, 0), (9, 2), (2, 9), (700, 640)])
def test_mcnemar_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    """The p is that of a fair coin over the questions that differ; four wins to none say nothing,
    six do."""
    p = mcnemar(gaps(wins, losses, 1500))
    exact = binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0

    assert p == pytest.approx(exact, rel=1e-9)
    assert mcnemar(gaps(4, 0, 20)) > ALPHA >= mcnemar(gaps(6, 0, 20))


def test_the_sign_flip_test_is_the_exact_one() -> None:
    """The p is the share of all 2ⁿ choices of signs with a sum at least the observed one."""
    values = np.random.default_rng(3).exponential(size=12) * np.tile([1.0, 1.0, -1.0], 4)
    signs = 2 * ((np.arange(2**12)[:, None] >> np.arange(12)) & 1) - 1
    exact = float((signs @ values >= values.sum() - 1e-12).mean())

    assert sign_flip(values, seed=1) == pytest.approx(exact, abs=0.015)
    assert sign_flip(values, seed=1) == sign_flip(values, seed=1)
    assert 1.0 == sign_flip(np.zeros(20), seed=1)
    assert 1e-4 == sign_flip(np.ones(40), seed=1)


def test_without_a_difference_chance_wins_as_seldom_as_it_may() -> None:
    """Of differences with no direction, wild ones too, at most 2.5 % are called gains."""
    rng = np.random.default_rng(5)
    wild = rng.standard_t(2, size=(600, 20))
    marks = rng.integers(-1, 2, size=(4000, 100)).astype(float)

    assert sum(sign_flip(row, seed=i) <= ALPHA for i, row in enumerate(wild)) / 600 <= 0.037
    assert sum(mcnemar(row) <= ALPHA for row in marks) / 4000 <= ALPHA


def test_a_gain_is_never_certain() -> None:
    """The interval is Agresti and Min's: around the gain, and wide where no answer differs."""
    same, some = share_gain(gaps(0, 0, 20)), share_gain(gaps(12, 2, 100))

    assert (0.0, -0.0891, 0.0891) == pytest.approx(tuple(same), abs=1e-4)  # z / (n + 2)
    assert (0.1, 0.0261, 0.1700) == pytest.approx(tuple(some), abs=1e-3)


@cache
def is_seen(wins: int, differ: int) -> bool:
    """Return whether McNemar's test sees so many wins of the questions that differ."""
    return mcnemar(gaps(wins, differ - wins, differ)) <= ALPHA


def power(n: int, differ: float, gain: float) -> float:
    """Return how often McNemar's exact test sees a gain; by all results of n questions."""
    total, wins = 0.0, (1 + gain / differ) / 2
    for m in range(n + 1):
        seen = sum(
            math.comb(m, b) * wins**b * (1 - wins) ** (m - b) for b in range(m + 1) if is_seen(b, m)
        )
        total += math.comb(n, m) * differ**m * (1 - differ) ** (n - m) * seen
    return total


@pytest.mark.parametrize(("n", "churn"), [(50, 0.3), (100, 0.12), (100, 0.3)])
@pytest.mark.parametrize("lead", [0, 5])
def test_the_smallest_visible_gain_is_seen_four_times_in_five(
    n: int, churn: float, lead: int
) -> None:
    """At the stated gain, on top of answers that differ anyhow, the exact test has a power of 80 %
    to a few points, whatever gain was seen."""
    lost = round(n * churn / 2)
    gain = visible_share(gaps(lost + lead, lost, n))

    assert 0.78 < power(n, 2 * lost / n + gain, gain) < 0.86


def test_more_questions_show_less() -> None:
    """With the needed number of questions, the gain that was seen is the smallest visible one."""
    some = gaps(12, 9, 100)
    needed = needed_for_share(some)
    assert needed is not None
    more = gaps(round(0.12 * needed), round(0.09 * needed), needed)

    assert needed > 1000
    assert visible_share(more) == pytest.approx(0.03, abs=0.001)
    assert needed_for_share(gaps(3, 3, 100)) is None
    drawn = np.random.default_rng(1).normal(0.1, 1.0, 100)
    needed = needed_for_mean(drawn)
    assert needed is not None
    assert visible_mean(np.resize(drawn, needed)) == pytest.approx(drawn.mean(), rel=0.05)
    assert needed_for_mean(-abs(drawn)) is None


def test_holm_steps_down() -> None:
    """The smallest p is multiplied by the number of tests, each next by one less, never falling."""
    assert (0.06, 0.04, 0.06, 0.06) == pytest.approx(holm([0.03, 0.01, 0.02, 0.04]))
    assert () == holm([])
    assert (1.0,) == holm([1.0])
