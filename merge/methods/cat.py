"""`cat`: the sum itself, by stacking factors."""

import torch

from merge.factors import Factors, Members, Merged, Mix, Stack
from merge.methods.method import merge_method


@merge_method(
    "cat",
    paper="arXiv:2409.16167",
    title="exact sum Σ weight · update; ranks add up (concatenation-summation equivalence)",
    work="stacked",
)
def cat(stack: Stack) -> Merged:
    """Return Σ weight · scale · b a as one pair of factors, exactly.

    [w₁s₁b₁ … w_T s_T b_T] · [a₁; …; a_T] (LoRA-LEGO, arXiv 2409.16167). The rank is R = Σ r and
    the rows of `a` are the members' own, bit for bit; weights may be negative.
    """
    members = Members.of(stack.members)
    share = members.spread(
        weight * member.scale for weight, member in zip(stack.weights, members, strict=True)
    )  # (R,)
    # Weights go to `b` alone, so that `a` keeps the members' bits and a reader can tell them apart.
    identity = torch.eye(len(share), dtype=torch.float64)
    ones = bool((share == 1.0).all())
    factors = Factors(members.a, members.b if ones else members.b * share.to(members.b))
    return Merged(factors, mix=Mix(identity, torch.diag(share), members))
