"""`average_factors`: the factors A and B summed separately, as common tools do; a control."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from merge.factors import Factors, Merged, Stack
from merge.methods.method import merge_method
from merge.methods.requirements import Requirements

_REQUIREMENTS = Requirements(equal_ranks=True)


@merge_method(
    "average_factors",
    paper="arXiv:2307.13269",
    title="control: (Σ weight · b)(Σ weight · a), with cross terms between unrelated adapters",
    differs="split=full is the paper's (LoraHub: the whole weight on each side, so a single "
    "adapter's weight is squared and its sign cancels); split=sqrt is PEFT's `linear` (√|weight| "
    "on each side, the sign on a); scales enter as √scale on each side; not an average of updates",
    exempt={
        "reparameterisation": "a and b are summed separately, so the cross terms b_i a_j depend on "
        "how each update is factored: the control shows this fault",
        "rank_order": "units are paired by position, so another order pairs other units",
        "copies": "with √weight on each side T copies at weight 1/T give T times the adapter; "
        "split=full gives it once",
    },
    requirements=_REQUIREMENTS,
    auto_rank="largest",
    work="stacked",
)
def average_factors(stack: Stack, *, split: Literal["sqrt", "full"] = "sqrt") -> Merged:
    """Return (Σ v b)(Σ u a) over members with scales folded in, of the members' own rank.

    `full`: u = v = weight (LoraHub's composition, arXiv 2307.13269). `sqrt`: u = ±√|weight| with
    the weight's sign, v = √|weight| (PEFT's combination type `linear`).

    Args:
        stack: the members, of one rank; weights of any sign.
        split: of a weight over both factors: its square root on each side, or all of it on each.

    Raises:
        IncompatibleAdapters: ranks differ; names the module and both ranks.
    """
    _REQUIREMENTS.check_stack("average_factors", stack)
    members = [member.balanced() for member in stack.members]
    roots = [math.sqrt(abs(weight)) for weight in stack.weights]
    on_a, on_b = list(stack.weights), list(stack.weights)
    if split == "sqrt":
        on_a = [math.copysign(root, w) for root, w in zip(roots, stack.weights, strict=True)]
        on_b = roots
    a = _weighted([member.a for member in members], on_a)  # (r, d_in)
    b = _weighted([member.b for member in members], on_b)  # (d_out, r)
    return Merged(Factors(a, b))


def _weighted(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    pairs = zip(tensors, weights, strict=True)
    # One sum over a stack, in a fixed order: the result does not depend on how sums are nested.
    return torch.stack([weight * tensor for tensor, weight in pairs]).sum(0)
