"""`ctm`: all members compressed into shared bases of the result's rank and merged there."""

from typing import Literal

import torch

from merge.basis import coordinates
from merge.factors import Merged, Stack
from merge.methods.elementwise import TABLE, Steps
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio, Seed
from merge.prune import PruneOptions, keep_all
from merge.signs import any_sign, mean
from merge.tucker import shared_bases

Rule = Literal["mean", "ties", "dare_linear", "dare_ties", "magnitude_prune"]

_MEAN = Steps(keep_all, any_sign, mean)


@merge_method(
    "ctm",
    paper="openreview:p32nWlgwYC",
    title="CtM: cores of all updates in shared bases of rank k, merged entry by entry",
    differs="weights, which the paper does not have, multiply updates first; the bases' iteration "
    "stops at a gain of 3e-4 of the energy (the authors: 1e-6), which changes results by some "
    "percent; the rule ties differs on the cores as ties does",
    auto_rank="largest",
    copies="mean",
    work="tucker",
)
def ctm(
    stack: Stack,
    *,
    rank: Rank,
    rule: Rule = "ties",
    density: Ratio = 0.25,
    beta: Ratio | None = 0.25,
    seed: Seed = 0,
) -> Merged:
    """Return U G Vᵀ, with G merged from the cores UᵀΔ_iV and U, V shared bases of rank k.

    The bases are those of a Tucker-2 decomposition of the updates, after their norms are brought
    closer together, so that the largest update does not determine the bases: |Δ_i| becomes
    β|Δ_i| + (1 - β) · mean |Δ|. The cores are those of the original updates. The result has rank k
    and is not truncated.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: of the bases, and so the largest rank of the result.
        rule: how cores are merged: their mean, or the steps of the method of that name.
        density: share of a core's entries that the rule keeps.
        beta: share of the norms' differences that the bases keep; none for 0.
        seed: of a random rule's draws, together with the module's name.
    """
    at = coordinates(stack)
    k = min(rank, stack.total_rank)
    cores = torch.stack(at.cores)  # (T, p, q)
    sizes = cores.flatten(1).norm(dim=1)  # (T,)
    wanted = (beta or 0.0) * sizes + (1.0 - (beta or 0.0)) * sizes.mean()
    share = torch.where(sizes > 0.0, wanted / sizes, 0.0)  # a zero update has no direction to scale
    u, v = shared_bases(cores * share[:, None, None], k)  # (p, ≤ k), (q, ≤ k)
    steps = _MEAN if rule == "mean" else TABLE[rule]
    return steps.within(at.frame(u, v), PruneOptions(stack.module, density=density, seed=seed), k)
