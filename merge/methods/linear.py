"""`linear`: the sum, brought to a chosen rank with the least possible loss."""

from merge.factors import Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio


@merge_method(
    "linear",
    paper="arXiv:2212.04089",
    title="weighted sum Σ weight · update (task arithmetic), truncated to rank k",
    differs="the paper's vectors are dense; here the sum is replaced by its best approximation of "
    "rank k, which is exact if k is at least the sum's own rank",
    revision=2,
    auto_rank="sum",
    work="sum",
)
def linear(stack: Stack, *, rank: Rank, energy: Ratio | None = None) -> Merged:
    """Return the rank-k update nearest to Σ weight · scale · b a in the Frobenius norm.

    Task arithmetic (arXiv 2212.04089, §2) on updates, then Eckart-Young. The energy is
    |result|² / |exact sum|².

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        energy: with it, the smallest rank that keeps this share of the exact sum's energy.
    """
    return truncated_sum(stack.members, stack.weights, rank, energy)
