"""`random`: what a merge of adapters of the right size, but without content, would give."""

import torch
from torch import Tensor

from merge.factors import Factors, Merged, Stack
from merge.linalg import truncated_sum
from merge.methods.method import merge_method
from merge.methods.options import Rank, Seed
from merge.seeds import generator_for


@merge_method(
    "random",
    paper="arXiv:2602.12323",
    title="control: every factor redrawn from a Gaussian of its own deviation, then `linear`",
    differs="the paper's release draws all adapters of a module with one deviation, pooled over "
    "them, and then learns their weights",
    exempt={
        "identity": "nothing of the adapter is left but its size: that is the control",
        "copies": "each copy is drawn anew, and independent draws do not add up to one of them",
        "reparameterisation": "the deviations are those of the factors, which another "
        "factorisation of the same update changes",
    },
    auto_rank="sum",
)
def random_factors(stack: Stack, *, rank: Rank, seed: Seed = 0) -> Merged:
    """Return `linear` of members whose factors are noise of the same standard deviations.

    The Recycling paper's control (arXiv 2602.12323, "random parameters"): entries of `a` are
    N(0, std(a)²), of `b` N(0, std(b)²), scales and ranks kept. Draws are made in the order of the
    deviations, so that the order of ingredients and ranks does not show.

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        seed: of the draws, together with the module's name.
    """
    generator = generator_for(seed, stack.module)
    sizes = [(_deviation(m.a), _deviation(m.b)) for m in stack.members]
    keys = [
        (*size, m.rank, m.scale, weight)
        for size, m, weight in zip(sizes, stack.members, stack.weights, strict=True)
    ]
    drawn: list[Factors] = list(stack.members)
    for i in sorted(range(len(keys)), key=keys.__getitem__):
        member = stack.members[i]
        a = torch.randn(member.a.shape, generator=generator) * sizes[i][0]
        b = torch.randn(member.b.shape, generator=generator) * sizes[i][1]
        drawn[i] = Factors(a.to(member.a.device), b.to(member.b.device), member.scale)
    merged = truncated_sum(drawn, stack.weights, rank)
    # The mix that it tells is one of the draws, not of the members.
    return Merged(merged.factors, merged.energy)


def _deviation(x: Tensor) -> float:
    return float(x.double().std(correction=0))
