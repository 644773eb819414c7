"""Means with the interval in which they would fall again, for a handful of values.

Covered: Student's t-interval at 95 %. Not covered: values that depend on each other, as subsets of
the same eight adapters do: their interval is too narrow by an unknown, probably small, amount.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t  # type: ignore[import-untyped]  # scikit-learn brings it; no types

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and half the width of its interval; None where one value says nothing of spread."""

    mean: float
    half: float | None
    count: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0: a difference with a known sign."""
        return self.half is not None and abs(self.mean) > self.half


def interval(values: Sequence[float]) -> Interval:
    """Return mean ± t₀.₉₇₅(n - 1) · s / √n of at least one value."""
    if len(values) == 1:
        return Interval(values[0], None, 1)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Interval(fmean(values), quantile * stdev(values) / math.sqrt(len(values)), len(values))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return the interval of the paired differences ours - theirs."""
    return interval([a - b for a, b in zip(ours, theirs, strict=True)])
