"""`compress`: one adapter at a lower rank."""

from merge.factors import Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio
from merge.methods.requirements import Requirements

_REQUIREMENTS = Requirements(members=1)


@merge_method(
    "compress",
    paper="doi:10.1007/BF02288367",
    title="one adapter brought to rank k, or to a share of its energy (Eckart-Young)",
    requirements=_REQUIREMENTS,
    auto_rank="sum",
    work="sum",
)
def compress(stack: Stack, *, rank: Rank, energy: Ratio | None = None) -> Merged:
    """Return the rank-k update nearest to weight · update of the one member.

    Eckart and Young 1936: the k largest singular triplets.

    Args:
        stack: one member, of any weight.
        rank: the largest rank of the result.
        energy: with it, the smallest rank that keeps this share of the update's energy.

    Raises:
        RecipeInvalid: more than one member.
    """
    _REQUIREMENTS.check_stack("compress", stack)
    return truncated_sum(stack.members, stack.weights, rank, energy)
