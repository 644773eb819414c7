"""`cat`: the sum itself, by stacking factors."""

import torch

from merge.factors import Factors, Merged, Stack
from merge.methods.method import merge_method


@merge_method(
    "cat",
    paper="arXiv:2409.16167",
    title="exact sum Σ weight · update; ranks add up (concatenation-summation equivalence)",
)
def cat(stack: Stack) -> Merged:
    """Return Σ weight · scale · b a as one pair of factors, with nothing lost.

    [w₁s₁b₁ … w_T s_T b_T] · [a₁; …; a_T] (LoRA-LEGO, arXiv 2409.16167). The rank is R = Σ r and
    the rows of `a` are the members' own, bit for bit; weights may be negative.
    """
    a = torch.cat([member.a for member in stack.members])  # (R, d_in)
    b = torch.cat(
        [
            member.b * (weight * member.scale)
            for member, weight in zip(stack.members, stack.weights, strict=True)
        ],
        dim=1,
    )  # (d_out, R)
    return Merged(Factors(a, b))
