"""`model_stock`: the mean, moved towards the base by the angle between the updates."""

from merge.directions import Array, directions
from merge.factors import Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio


@merge_method(
    "model_stock",
    paper="arXiv:2403.19522",
    title="Model Stock: t times the mean, t from the mean cosine between updates",
    differs="the paper's anchor, the pretrained weights, is the zero update; weights, which the "
    "paper does not have, multiply updates first; for a negative mean cosine t is 0, the anchor "
    "itself (the paper has angles below 90° only)",
    auto_rank="sum",
    copies="mean",
    work="sum",
)
def model_stock(stack: Stack, *, rank: Rank, energy: Ratio | None = None) -> Merged:
    """Return t · (1/N) Σ weight · update, t = N c / (1 + (N-1) c), c the mean pairwise cosine.

    Model Stock's ratio for N fine-tuned models (arXiv 2403.19522, §4), module by module, N members
    having the module.
    Unrelated updates have c near 0, so the result is small by design; `scale=match` restores the
    norm.

    Args:
        stack: the members; a negative weight turns one around.
        rank: the largest rank of the result.
        energy: with it, the smallest rank that keeps this share of the exact result's energy.
    """
    count = len(stack.members)
    t = interpolation(directions(stack).cosines)
    return truncated_sum(stack.members, [t * w / count for w in stack.weights], rank, energy)


def interpolation(cosines: Array) -> float:
    """Return Model Stock's ratio t in [0, 1] for (N, N) cosines; 1 for a single member."""
    count = len(cosines)
    if count == 1:
        return 1.0
    # Off the diagonal only; below 0 the formula would point away from every update, and for c near
    # -1 / (N - 1) it diverges.
    mean = (cosines.sum() - count) / (count * (count - 1))
    return float(max(count * mean / (1.0 + (count - 1) * mean), 0.0)) if mean > 0.0 else 0.0
