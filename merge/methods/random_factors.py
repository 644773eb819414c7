"""`random`: the merge of noise that has the adapters' shapes and sizes; a control.

`redrawn` makes the noise, here and for the controls of adaptive jobs.
"""

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
    title="control: `linear` of Gaussian noise with the factors' standard deviations",
    differs="the paper's release pools one deviation over all adapters of a module and then learns "
    "their weights; here each factor keeps its own deviation and the weights are the recipe's",
    exempt={
        "identity": "the result keeps the adapter's size and none of its content: that is the "
        "control",
        "copies": "each copy is a draw of its own, and independent draws do not add up to one draw",
        "reparameterisation": "the deviations are those of the factors, which depend on how the "
        "update is factored",
    },
    auto_rank="sum",
    work="noise",
)
def random_factors(stack: Stack, *, rank: Rank, seed: Seed = 0) -> Merged:
    """Return `linear` of members whose factors are noise of the same standard deviations.

    The Recycling paper's control (arXiv 2602.12323, "random parameters").

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        seed: of the draws, together with the module's name.
    """
    generator = generator_for(seed, stack.module)
    # One generator serves all members. Drawing in an order of content rather than of position
    # keeps the result the same when the recipe lists its ingredients in another order.
    keys = [
        (_deviation(m.a), _deviation(m.b), m.rank, m.scale, weight)
        for m, weight in zip(stack.members, stack.weights, strict=True)
    ]
    noise: list[Factors] = list(stack.members)
    for i in sorted(range(len(keys)), key=keys.__getitem__):
        noise[i] = redrawn(stack.members[i], generator)
    merged = truncated_sum(noise, stack.weights, rank)
    # `merged.mix` refers to MSUs of the noise; a measure would read it as the members'.
    return Merged(merged.factors, merged.energy)


def redrawn(factors: Factors, generator: torch.Generator) -> Factors:
    """Return Gaussian noise of the same shapes and scale: N(0, std(a)²) and N(0, std(b)²).

    `a` is drawn before `b`, both on the CPU, so that the draws are equal on every device.
    """
    return Factors(_noise(factors.a, generator), _noise(factors.b, generator), factors.scale)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.randn(like.shape, generator=generator) * _deviation(like)).to(like.device)


def _deviation(x: Tensor) -> float:
    # In float64: the squares of millions of small entries lose digits in a float32 sum.
    return float(x.double().std(correction=0))
