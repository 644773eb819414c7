"""Intervals: the uncertainty of a figure of few examples.

Losses: the percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
section 13.3). Shares: Wilson's interval (Journal of the American Statistical Association 22, 1927),
which has a width at 0/n and n/n, where every resample is the same. Differences are paired: both
figures are of the same resampled examples. Not covered: tests of differences (`paired`), and the
bias of choosing among many candidates on the same examples.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_ACROSS = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2


def bootstrap(
    values: Sequence[float], *, weights: Sequence[float] | None = None, seed: int
) -> Interval:
    """Return Σ values / Σ weights over examples, with its interval.

    Args:
        values: (n,) one for each example, n at least 1.
        weights: (n,) positive; without them each is 1 and the figure is the mean.
        seed: of the resampling.
    """
    numbers = np.asarray(values, np.float64)
    sizes = np.ones_like(numbers) if weights is None else np.asarray(weights, np.float64)
    drawn = _draws(len(numbers), seed)  # (RESAMPLES, n)
    figures = numbers[drawn].sum(1) / sizes[drawn].sum(1)
    return _interval(float(numbers.sum() / sizes.sum()), figures)


def share(marks: Sequence[bool]) -> Interval:
    """Return the share of marks that are true, with Wilson's interval.

    Args:
        marks: (n,) one for each example, n at least 1.
    """
    n, value = len(marks), sum(marks) / len(marks)
    stretch = 1 + _ACROSS**2 / n
    middle = (value + _ACROSS**2 / (2 * n)) / stretch
    half = _ACROSS / stretch * math.sqrt(value * (1 - value) / n + (_ACROSS / (2 * n)) ** 2)
    # At 0/n and n/n an end is the value itself, to the last bits.
    return Interval(value, min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half)))


def difference(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    seed: int,
) -> Interval:
    """Return ours - theirs on the same examples, with its interval; see `bootstrap`."""
    # Differences first, then resampling: what examples have in common cancels, and the interval is
    # narrower than that of two independent figures.
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    return bootstrap(gaps, weights=weights, seed=seed)


def _draws(n: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))


def _interval(value: float, figures: NDArray[np.float64]) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(figures, [tail, 1 - tail])
    return Interval(value, float(low), float(high))
