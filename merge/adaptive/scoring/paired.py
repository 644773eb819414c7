"""Two candidates on the same questions: exact tests, the gain with its interval, what can be seen.

Answers: McNemar's test in its exact form (Psychometrika 12, 1947) and Agresti and Min's interval
(Statistics in Medicine 24, 2005), which has a width even where no answer differs. Nats: the
sign-flip test, a randomisation test (Fisher, The Design of Experiments, 1935, section 21).
Everything is per question: examples that share one are not independent.
Not covered: which candidates are compared, and what follows (`merge.adaptive.verdict`).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from merge.adaptive.scoring.bootstrap import CONFIDENCE, Interval

ALPHA = 0.025  # one-sided: how often chance may look like a gain
POWER = 0.8  # with which a gain that "can be seen" is seen
FLIPS = 9999  # drawn by the sign-flip test; with the observed signs, a round number
_CHUNK = 2**22  # signs drawn at once, a byte each

Gaps = NDArray[np.float64]  # (n,): ours less theirs by question, positive where ours is better
_ACROSS = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_AT_ALPHA, _AT_POWER = NormalDist().inv_cdf(1 - ALPHA), NormalDist().inv_cdf(POWER)


def mcnemar(gaps: Gaps) -> float:
    """Return the one-sided p of "ours is not better": P(Bin(w + l, 1/2) ≥ w) of w wins, l losses.

    Questions without a difference say nothing of its sign. 1 where no question differs.
    """
    wins, differ = int((gaps > 0).sum()), int((gaps != 0).sum())
    # In whole numbers, of any size, until the last division.
    return sum(math.comb(differ, count) for count in range(wins, differ + 1)) / (1 << differ)


def sign_flip(gaps: Gaps, *, seed: int) -> float:
    """Return the one-sided p of "the gaps are as often up as down", by drawn signs.

    Were ours no better, each gap could as well have had the other sign. p counts the observed signs
    among the drawn ones, so that it is never too small (Phipson and Smyth, 2010).
    """
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(1, len(gaps)))
    observed, as_high = gaps.sum(), 1
    # Sums of the same numbers in another order differ in the last bits; they count as equal.
    least = observed - 1e-12 * np.abs(gaps).sum()
    for start in range(0, FLIPS, rows):
        up = rng.integers(2, size=(min(rows, FLIPS - start), len(gaps)), dtype=np.int8)
        as_high += int(((2 * up - 1) @ gaps >= least).sum())
    return as_high / (FLIPS + 1)


def share_gain(gaps: Gaps) -> Interval:
    """Return the mean gap of answers with Agresti and Min's 95 % interval.

    As if half a question more had each of the four results of two answers.
    """
    n = len(gaps) + 2
    middle = gaps.sum() / n
    half = _ACROSS * math.sqrt(((gaps**2).sum() + 1) / n - middle**2) / math.sqrt(n)
    return Interval(float(gaps.mean()), float(middle - half), float(middle + half))


def visible_share(gaps: Gaps) -> float:
    """Return the smallest true gain that as many questions show with 80 % power, at most 1."""
    churn, low, high = _churn(gaps), 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if _questions(churn, middle) <= len(gaps) else (middle, high)
    return high


def needed_for_share(gaps: Gaps) -> int | None:
    """Return how many questions show the gain seen here with 80 % power; None without a gain."""
    gain = float(gaps.mean())
    return math.ceil(_questions(_churn(gaps), gain)) if gain > 0 else None


def visible_mean(gaps: Gaps) -> float:
    """Return the smallest true mean gap that as many questions show with 80 % power."""
    return (_AT_ALPHA + _AT_POWER) * float(gaps.std(ddof=1)) / math.sqrt(len(gaps))


def needed_for_mean(gaps: Gaps) -> int | None:
    """Return how many questions show the mean gap seen here; None where it is not above 0."""
    gain = float(gaps.mean())
    if gain <= 0:
        return None
    return math.ceil(len(gaps) * (visible_mean(gaps) / gain) ** 2)


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Return Holm's adjusted p of several tests (Scandinavian Journal of Statistics 6, 1979)."""
    adjusted, highest = [0.0] * len(p), 0.0
    for passed, at in enumerate(sorted(range(len(p)), key=lambda at: p[at])):
        highest = max(highest, min(1.0, (len(p) - passed) * p[at]))
        adjusted[at] = highest
    return tuple(adjusted)


def _churn(gaps: Gaps) -> float:
    """Return the share of questions whose answers differ without any gain: as many each way.

    With half a question more on each side, for none seen are not none.
    """
    differ, lead = int((gaps != 0).sum()), abs(float(np.sign(gaps).sum()))
    return (differ - lead + 1) / (len(gaps) + 2)


def _questions(churn: float, gain: float) -> float:
    """Return how many questions McNemar's exact test needs to see a gain.

    Connor's formula (Biometrics 43, 1987) and 1/gain more for the exact test: within two points of
    the exact power's gain at 20 to 400 questions. The gain comes on top of the churn: a formula for
    the answers that differ here would promise too much of a larger gain.

    Args:
        churn: the share of questions whose answers differ without a gain.
        gain: above 0, at most 1.
    """
    differ = min(1.0, churn + gain)
    spread = _AT_ALPHA * math.sqrt(differ) + _AT_POWER * math.sqrt(max(0.0, differ - gain**2))
    return (spread / gain) ** 2 + 1 / gain
