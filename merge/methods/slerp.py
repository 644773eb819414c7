"""`slerp`: interpolation of two updates along the arc between their directions."""

import math

import numpy as np

from merge.directions import along, directions
from merge.factors import Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio, Share
from merge.methods.requirements import Requirements

_REQUIREMENTS = Requirements(members=2)
# Below this sine arc and chord agree to 1e-8, and the quotient of two small sines loses digits.
# Opposite directions have no unique arc; they take the chord, too.
_PARALLEL = 1e-4


@merge_method(
    "slerp",
    paper="doi:10.1145/325334.325242",
    title="spherical interpolation of two updates at t, truncated to rank k",
    differs="the paper interpolates unit quaternions; here directions of weight · update follow "
    "the arc and norms are interpolated linearly (tools for whole models apply the arc's "
    "coefficients to vectors of any length); parallel or opposite updates are interpolated "
    "linearly; a module of one ingredient is copied from it",
    requirements=_REQUIREMENTS,
    auto_rank="sum",
    copies="mean",
    work="sum",
)
def slerp(stack: Stack, *, rank: Rank, t: Share = 0.5, energy: Ratio | None = None) -> Merged:
    """Return the update at t of the way from the first member to the second.

    With unit directions u, v at angle θ and norms p, q of weight · update, the result is
    ((1-t) p + t q) · (sin((1-t)θ) u + sin(tθ) v) / sin θ (Shoemake 1985, "great arc
    in-betweening"): coefficients from the Gram matrix, then the best rank-k approximation.

    Args:
        stack: at most two members, in order; a negative weight turns one around.
        rank: the largest rank of the result.
        t: 0 is the first, 1 the second.
        energy: with it, the smallest rank that keeps this share of the exact result's energy.

    Raises:
        RecipeInvalid: more than two members.
    """
    _REQUIREMENTS.check_stack("slerp", stack)
    if len(stack.members) == 1:
        return truncated_sum(stack.members, stack.weights, rank, energy)
    norms, cosines = directions(stack)
    line = np.array([1.0 - t, t])
    angle = math.acos(cosines[0, 1])
    if math.sin(angle) < _PARALLEL or not norms.all():
        coefficients = line
    else:
        arc = np.sin(line * angle) / math.sin(angle)
        coefficients = along(norms, arc * (line @ norms))
    return truncated_sum(stack.members, (coefficients * stack.weights).tolist(), rank, energy)
