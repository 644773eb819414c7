"""`karcher`: the mean of directions on the sphere, with the mean norm."""

import numpy as np

from merge.directions import Array, along, directions
from merge.factors import Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio
from merge.methods.requirements import Requirements

_REQUIREMENTS = Requirements(positive_weights=True)
_MAX_ITERATIONS = 500
_TOLERANCE = 1e-10  # radians; the result is float32
# Below this length of the straight mean of unit vectors, rounding would decide its direction.
_CANCELLED = 1e-4


@merge_method(
    "karcher",
    paper="doi:10.1145/502122.502124",
    title="Karcher mean of the updates' directions times their mean norm, truncated to rank k",
    differs="the paper averages points of the unit sphere; here norms are averaged separately; "
    "weights are relative and must be positive; directions that cancel give a zero result",
    exempt={
        "weights": "weights are relative, as in every weighted mean of directions: multiplying all "
        "of them changes nothing; use scale",
    },
    requirements=_REQUIREMENTS,
    auto_rank="sum",
    copies="mean",
    work="sum",
)
def karcher(stack: Stack, *, rank: Rank, energy: Ratio | None = None) -> Merged:
    """Return (Σ p |update|) · μ with p = weight / Σ weight and μ the directions' Karcher mean.

    μ minimises Σ p · angle(μ, direction)² (Buss and Fillmore 2001). It lies in the members'
    span, so the iteration runs on coefficients and the Gram matrix.

    Args:
        stack: the members; weights above 0.
        rank: the largest rank of the result.
        energy: with it, the smallest rank that keeps this share of the exact mean's energy.

    Raises:
        RecipeInvalid: a weight that is not positive.
    """
    _REQUIREMENTS.check_stack("karcher", stack)
    # Divided by the largest first: no sum of finite weights overflows.
    share = np.asarray(stack.weights) / max(stack.weights)
    share /= share.sum()
    norms, cosines = directions(Stack(stack.module, stack.members, tuple(share)))
    length = norms.sum()  # the weighted mean, since shares are folded in
    mean = spherical_mean(cosines, np.where(norms > 0.0, share, 0.0))
    coefficients = along(norms, length * mean) * share
    return truncated_sum(stack.members, coefficients.tolist(), rank, energy)


def spherical_mean(cosines: Array, weights: Array) -> Array:
    """Return the Karcher mean of T unit vectors as coefficients on them, (T,) float64.

    Algorithm A1 of Buss and Fillmore 2001: from the normalised straight mean, step along the
    weighted mean of the logarithms until it is shorter than 1e-10 rad; unique, and reached, where
    the vectors lie within a half-sphere. Zero where the straight mean is shorter than 1e-4: the
    directions cancel.

    Args:
        cosines: (T, T) inner products of the vectors.
        weights: (T,) not negative; only their ratios matter.
    """
    total = weights.sum()
    square = weights @ cosines @ weights
    if square <= (_CANCELLED * total) ** 2:
        return np.zeros_like(weights)
    share = weights / total
    mean = weights / np.sqrt(square)
    for _ in range(_MAX_ITERATIONS):
        height = (cosines @ mean).clip(-1.0, 1.0)  # (T,) cosines to the mean
        sine = np.sqrt(1.0 - height**2)
        # angle / sine. At the mean itself the quotient is 1, its limit; at the opposite pole the
        # direction is undefined and the pull is 0.
        pull = np.divide(np.arccos(height), sine, out=(height > 0.0) * 1.0, where=sine > 1e-8)
        step = share * pull
        step -= (step @ height) * mean  # into the tangent space
        distance = np.sqrt(max(step @ cosines @ step, 0.0))
        if distance < _TOLERANCE:
            break
        mean = np.cos(distance) * mean + (np.sin(distance) / distance) * step
        mean /= np.sqrt(mean @ cosines @ mean)  # rounding would let it drift off the sphere
    return np.asarray(mean)
