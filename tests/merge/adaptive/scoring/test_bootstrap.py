"""Intervals: coverage, width, weights and paired differences."""

import math
from collections.abc import Iterable

import numpy as np
import pytest

from merge.adaptive.scoring.bootstrap import CONFIDENCE, Interval, bootstrap, difference, share


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """About 95 % of the intervals contain the true mean: 300 samples of 60 from a skewed
    distribution whose mean is 1."""
    rng = np.random.default_rng(7)
    intervals = [bootstrap(rng.exponential(size=60).tolist(), seed=i) for i in range(300)]
    held = sum(each.low <= 1.0 <= each.high for each in intervals) / 300

    assert held == pytest.approx(CONFIDENCE, abs=0.04)


def test_the_width_is_the_standard_errors() -> None:
    """With many examples the interval extends 1.96 standard errors to each side."""
    values = np.random.default_rng(1).normal(size=2000)
    found = bootstrap(values.tolist(), seed=0)

    assert found.value == pytest.approx(values.mean())
    assert found.half == pytest.approx(1.96 * values.std() / 2000**0.5, rel=0.06)


def test_a_figure_with_weights_is_a_ratio_of_sums() -> None:
    """Nats per token are a sum over a sum, in the figure and in every resample."""
    nll, tokens = [1.0, 30.0, 4.0], [1, 10, 4]
    found = bootstrap(nll, weights=tokens, seed=3)

    assert 35 / 15 == found.value
    assert (1.0, 3.0) == (found.low, found.high)  # resamples of one example three times


def test_equal_values_have_no_interval() -> None:
    """If all values are equal, both ends of the interval equal the figure."""
    assert (0.25, 0.25, 0.25) == bootstrap([0.25] * 9, seed=0)
    assert (1.0, 1.0, 1.0) == bootstrap([True], seed=0)


def test_paired_differences_are_narrow() -> None:
    """The interval of a paired difference is narrower than the intervals of correlated figures."""
    rng = np.random.default_rng(5)
    hard = rng.normal(size=40)
    ours, theirs = (hard + 0.3).tolist(), (hard + 0.01 * rng.normal(size=40)).tolist()
    apart = difference(ours, theirs, seed=0)

    assert apart.value == pytest.approx(0.3, abs=0.01)
    assert apart.low > 0.29
    assert apart.half < bootstrap(ours, seed=0).half / 20


def test_a_difference_is_that_of_the_figures() -> None:
    """The difference is that of the two figures, also with weights; swapping them negates it."""
    ours, theirs, tokens = [3.0, 8.0, 1.0], [2.0, 2.0, 2.0], [1, 2, 1]
    found = difference(ours, theirs, weights=tokens, seed=4)
    mirror = difference(theirs, ours, weights=tokens, seed=4)

    assert 6 / 4 == found.value
    assert (-found.value, -found.high, -found.low) == pytest.approx(tuple(mirror))


def test_a_seed_repeats_itself() -> None:
    """The same seed gives the same interval, and another seed gives another one."""
    values = np.random.default_rng(2).normal(size=20).tolist()

    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    assert bootstrap(values, seed=2**63 - 1)


def test_lists_must_go_together() -> None:
    """Lists of different lengths are refused."""
    with pytest.raises(ValueError, match="argument 2 is longer"):
        difference([1.0], [1.0, 2.0], seed=0)


def test_a_share_is_never_certain() -> None:
    """Wilson's interval is his formula's, lies in [0, 1], and has a width at 0/n and n/n, where a
    bootstrap has none."""
    none, half, every = share([False] * 20), share([True, False] * 10), share([True] * 20)

    assert (0.0, 0.0) == (none.value, none.low)
    assert none.high == pytest.approx(0.1611, abs=1e-4)  # z² / (n + z²)
    assert (1.0, 1.0, 1.0 - none.high) == pytest.approx((every.value, every.high, every.low))
    assert (half.low, half.high) == pytest.approx((0.2993, 0.7007), abs=1e-4)


def test_shares_hold_small_rates() -> None:
    """Wilson's interval of 20 marks contains a true rate of .05 in more than nine of ten draws,
    where the bootstrap's does in two of three."""
    chances = [math.comb(20, right) * 0.05**right * 0.95 ** (20 - right) for right in range(21)]
    marks = [[True] * right + [False] * (20 - right) for right in range(21)]

    def held(intervals: Iterable[Interval]) -> float:
        ways = zip(chances, intervals, strict=True)
        return sum(chance for chance, way in ways if way.low <= 0.05 <= way.high)

    assert held(map(share, marks)) > 0.9
    assert held(bootstrap(each, seed=1) for each in marks) < 0.7
