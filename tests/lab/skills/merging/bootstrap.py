"""Intervals over subsets: which values would other subsets of the same skills give?

Covered: the percentile bootstrap of a mean, and Wilson's interval of a share, both at 95 %.
Not covered: other adapters, prompts or bases; subsets share adapters, so intervals are somewhat
too narrow.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest  # type: ignore[import-untyped]  # scikit-learn brings it; no types

CONFIDENCE = 0.95
DRAWS = 2000


class Span(NamedTuple):
    """A figure and the interval around it; a single value has none."""

    mean: float
    low: float | None
    high: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0: a difference with a known sign."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


def mean_span(values: Sequence[float]) -> Span:
    """Return the mean of at least one value, and its interval from resampled values."""
    if len(values) == 1:
        return Span(values[0], None, None)
    draws = np.random.default_rng(0).choice(np.array(values), (DRAWS, len(values))).mean(1)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Span(fmean(values), float(low), float(high))


def share_span(hits: Sequence[bool]) -> Span:
    """Return the share of hits; its interval has a width at 0 and at 1, too."""
    ends = binomtest(sum(hits), len(hits)).proportion_ci(CONFIDENCE, method="wilson")
    return Span(sum(hits) / len(hits), float(ends.low), float(ends.high))
