"""`average`: the mean of the updates."""

from merge.factors import Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio


@merge_method(
    "average",
    paper="arXiv:2203.05482",
    title="mean Σ weight · update / n (uniform soup), truncated to rank k",
    differs="the paper averages whole fine-tuned models; n is the number of ingredients that have "
    "the module, and weights multiply the updates (they are not normalised to a sum of 1)",
    auto_rank="sum",
    copies="mean",
    work="sum",
)
def average(stack: Stack, *, rank: Rank, energy: Ratio | None = None) -> Merged:
    """Return the rank-k update nearest to (1/n) Σ weight · update, n members having the module.

    Model soups (arXiv 2203.05482, §2, "uniform soup") on updates: `linear` at weights w/n.

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        energy: with it, the smallest rank that keeps this share of the exact mean's energy.
    """
    shares = [weight / len(stack.members) for weight in stack.weights]
    return truncated_sum(stack.members, shares, rank, energy)
