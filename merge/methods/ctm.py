"""`ctm`: all members compressed into shared bases of the result's rank and merged there."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from merge.basis import coordinates
from merge.factors import Merged, Stack
from merge.methods.elementwise import TABLE, Steps
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio, Seed
from merge.prune import PruneOptions, keep_all
from merge.signs import any_sign, mean
from merge.tucker import shared_bases_of_each

Rule = Literal["mean", "ties", "dare_linear", "dare_ties", "magnitude_prune"]

_MEAN = Steps(keep_all, any_sign, mean)


def ctm_of_each(
    stacks: Sequence[Stack],
    *,
    rank: int,
    rule: Rule,
    density: float,
    beta: float | None,
    seed: int,
) -> list[Merged]:
    """Return what `ctm` gives for each stack; bases of stacks of one shape are sought at once."""
    steps = _MEAN if rule == "mean" else TABLE[rule]
    places = [coordinates(stack) for stack in stacks]
    resized = [_resized(torch.stack(at.cores), beta or 0.0) for at in places]  # (T, p, q) each
    results: dict[int, Merged] = {}
    for shape in {
        (cores.shape, stack.total_rank) for cores, stack in zip(resized, stacks, strict=True)
    }:
        alike = [
            i for i, cores in enumerate(resized) if (cores.shape, stacks[i].total_rank) == shape
        ]
        k = min(rank, shape[1])
        bases = shared_bases_of_each(torch.stack([resized[i] for i in alike]), k)
        for i, u, v in zip(alike, *bases, strict=True):  # (p, ≤ k), (q, ≤ k)
            options = PruneOptions(stacks[i].module, density=density, seed=seed)
            results[i] = steps.within(places[i].frame(u, v), options, k)
    return [results[i] for i in range(len(stacks))]


def _resized(cores: Tensor, beta: float) -> Tensor:
    """Return cores (T, p, q) of norms that are nearer to one another."""
    sizes = cores.flatten(1).norm(dim=1)  # (T,)
    wanted = beta * sizes + (1.0 - beta) * sizes.mean()
    share = torch.where(sizes > 0.0, wanted / sizes, 0.0)  # a zero update has no direction to scale
    return cores * share[:, None, None]


@merge_method(
    "ctm",
    paper="openreview:p32nWlgwYC",
    title="CtM: cores of all updates in shared bases of rank k, merged entry by entry",
    differs="weights, which the paper does not have, multiply updates first; another iteration "
    "finds the bases, to the authors' tolerance (1e-6 of the error), where results are 1 to 20 % "
    "from its end, the further the flatter the updates' spectra; the scale is 1 (the authors' "
    "command has 0.75); the rule ties differs on the cores as ties does",
    auto_rank="largest",
    copies="mean",
    work="tucker",
    revision=2,
    group=ctm_of_each,
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
    return ctm_of_each([stack], rank=rank, rule=rule, density=density, beta=beta, seed=seed)[0]
