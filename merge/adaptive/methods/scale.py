"""One number: the scale of a whole update, by a short search along it.

The validation loss along the scale is smooth and has one valley in practice; so: a coarse grid of
powers of two, then halving steps in the logarithm beside the best. Not covered: scales far below
1/8 or above 8, and negative ones.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from merge.adaptive.training import LossNotFinite

COARSE = tuple(2.0**power for power in range(-3, 4))
ROUNDS = 3
EVALUATIONS = len(COARSE) + 2 * ROUNDS


class Found(NamedTuple):
    """The best scale, its loss, and all that was tried: (scale, loss) in order."""

    scale: float
    loss: float
    tried: tuple[tuple[float, float], ...]


def search_scale(
    loss: Callable[[float], float], told: Callable[[int, float], None] | None = None
) -> Found:
    """Return the scale with the lowest loss of those tried; NaN never is.

    Args:
        loss: of the update times a scale.
        told: called with (evaluations done, the loss of the last).

    Raises:
        LossNotFinite: it is NaN or infinite at every coarse scale.
    """
    tried: list[tuple[float, float]] = []

    def attempt(scale: float) -> None:
        tried.append((scale, loss(scale)))
        if told is not None:
            told(len(tried), tried[-1][1])

    for scale in COARSE:
        attempt(scale)
    if not any(math.isfinite(value) for _, value in tried):
        raise LossNotFinite("scale", len(tried), "the loss at every scale", None)
    step = 2.0**0.5
    for _ in range(ROUNDS):
        best = _best(tried)[0]
        attempt(best / step)
        attempt(best * step)
        step **= 0.5
    return Found(*_best(tried), tuple(tried))


def _best(tried: list[tuple[float, float]]) -> tuple[float, float]:
    return min((each for each in tried if math.isfinite(each[1])), key=lambda each: each[1])
