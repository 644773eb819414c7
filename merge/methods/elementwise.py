"""The elementwise families: a pruning step, a sign step and a combination make a method.

`TABLE` holds which; the functions below it hold papers, options and defaults. The bare method is
the published one, on the dense update of each module, read in row tiles and brought to rank k.
`basis=knots` and `basis=core` apply the same steps to the thin blocks of those papers: much
cheaper, and another method. What all share and the papers do not have: thresholds and coefficients
are per module, not over a whole model; a weight multiplies its update before anything else, a
negative one merges the negated update; the result is truncated to rank k.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from merge.basis import Basis, Frame, core, knots
from merge.dense import Rows, Tiles, Updates, low_rank
from merge.factors import Factors, Merged, Stack
from merge.methods.method import merge_method
from merge.methods.options import Rank, Ratio, Seed
from merge.prune import (
    Majority,
    PruneOptions,
    Step,
    keep_largest,
    keep_middle,
    keep_random,
    keep_ranked,
    keep_varied,
)
from merge.seeds import generator_for
from merge.signs import Combination, any_sign, disjoint_mean, elect_signs, energy_mean, total
from merge.weighing import weigh

_CHANCE = 8  # random directions among those that the range finder starts from


class Steps(NamedTuple):
    """What a method does to every entry, in this order."""

    prune: Step
    sign: Step
    combine: Combination

    def merge(self, tiles: Tiles, options: PruneOptions) -> Rows:
        """Return the merged matrix of T matrices, tile by tile."""
        pruned = self.prune(tiles, options)
        return self.combine(pruned, self.sign(pruned, options))

    def within(self, frame: Frame, options: PruneOptions, rank: int) -> Merged:
        """Return the updates merged in a thin basis, at exactly `rank` MSUs."""
        return frame.lift(torch.cat(list(self.merge(Updates(frame.blocks), options))), rank)


TABLE = {
    #                        prune           sign          combine
    "ties":            Steps(keep_largest,   elect_signs,  disjoint_mean),
    "dare_linear":     Steps(keep_random,    any_sign,     total),
    "dare_ties":       Steps(keep_random,    elect_signs,  disjoint_mean),
    "della":           Steps(keep_ranked,    elect_signs,  disjoint_mean),
    "breadcrumbs":     Steps(keep_middle,    any_sign,     total),
    "magnitude_prune": Steps(keep_largest,   any_sign,     total),
    "sce":             Steps(keep_varied,    elect_signs,  energy_mean),
}  # fmt: skip


def _merge(stack: Stack, method: str, basis: Basis, rank: int, options: PruneOptions) -> Merged:
    """Apply a method's steps in a basis and bring the result to rank min(rank, R)."""
    steps, k = TABLE[method], min(rank, stack.total_rank)
    if basis != "dense":
        return steps.within(knots(stack) if basis == "knots" else core(stack), options, k)
    members, size = weigh(stack)
    d_out, d_in = members[0].b.shape[0], members[0].a.shape[1]
    merged = steps.merge(Updates(members), options)
    return low_rank(merged, (d_out, d_in), start=_start(stack, members), rank=k, size=size)


def _start(stack: Stack, members: Sequence[Factors]) -> Tensor:
    """Return where the range finder looks first, (d_in, R + 8): the members' rows, and chance.

    The merged matrix is the sum plus what pruning and signs scatter, so its strongest directions
    are near theirs. The draws are no part of the method and have no seed of their own.
    """
    rows = torch.cat([member.a for member in members])
    chance = torch.randn(_CHANCE, rows.shape[1], generator=generator_for(0, stack.module))
    return torch.cat([rows, chance.to(rows)]).mT


@merge_method(
    "ties",
    paper="arXiv:2306.01708",
    title="TIES: trim to the largest entries, elect signs, mean of those that agree",
    differs="weights, which the paper does not have, multiply updates before signs are elected "
    "(PEFT: after), and the mean divides by the number of members that agree (mergekit: by their "
    "weights); entries are ranked per module; a draw elects nobody; the result is truncated",
    auto_rank="sum",
    copies="mean",
)
def ties(
    stack: Stack,
    *,
    rank: Rank,
    density: Ratio = 0.2,
    majority: Majority = "total",
    basis: Basis = "dense",
) -> Merged:
    """Return TIES-Merging (arXiv 2306.01708, algorithm 1) at λ = 1, truncated to rank k.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
        density: share of each update's entries that is kept, the largest.
        majority: the elected sign is that of the sum ("total") or of most members ("frequency").
        basis: where entries are taken.
    """
    options = PruneOptions(stack.module, density=density, majority=majority)
    return _merge(stack, "ties", basis, rank, options)


@merge_method(
    "dare_linear",
    paper="arXiv:2311.03099",
    title="DARE: drop entries at random and rescale the rest, then the weighted sum",
    differs="the paper searches drop rates from 0.1 to 0.9, the default is the middle; the result "
    "is truncated",
    auto_rank="sum",
    random_prune=True,
)
def dare_linear(
    stack: Stack, *, rank: Rank, density: Ratio = 0.5, seed: Seed = 0, basis: Basis = "dense"
) -> Merged:
    """Return Σ weight · DARE(update) (arXiv 2311.03099, eq. 1-3 and task arithmetic), truncated.

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        density: probability of keeping an entry, 1 - the paper's drop rate.
        seed: of the draws, together with the module's name.
        basis: where entries are taken.
    """
    options = PruneOptions(stack.module, density=density, seed=seed)
    return _merge(stack, "dare_linear", basis, rank, options)


@merge_method(
    "dare_ties",
    paper="arXiv:2311.03099",
    title="DARE in the place of TIES' trimming, then signs and disjoint mean as in TIES",
    differs="the authors' code trims as TIES does after dropping, this and others do not; weights "
    "and signs as in ties; the default density as in dare_linear; the result is truncated",
    auto_rank="sum",
    copies="mean",
    random_prune=True,
)
def dare_ties(
    stack: Stack,
    *,
    rank: Rank,
    density: Ratio = 0.5,
    majority: Majority = "total",
    seed: Seed = 0,
    basis: Basis = "dense",
) -> Merged:
    """Return TIES-Merging of DARE-pruned updates (arXiv 2311.03099, §3.3), truncated to rank k.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
        density: probability of keeping an entry, 1 - the paper's drop rate.
        majority: the elected sign is that of the sum ("total") or of most members ("frequency").
        seed: of the draws, together with the module's name.
        basis: where entries are taken.
    """
    options = PruneOptions(stack.module, density=density, majority=majority, seed=seed)
    return _merge(stack, "dare_ties", basis, rank, options)


@merge_method(
    "della",
    paper="arXiv:2406.11617",
    title="DELLA: drop at random, small entries more often, then signs and disjoint mean",
    differs="the window of probabilities shrinks where it would leave (0, 1]; weights and signs "
    "as in ties; the paper searches density and window; the result is truncated",
    auto_rank="sum",
    copies="mean",
    random_prune=True,
)
def della(
    stack: Stack,
    *,
    rank: Rank,
    density: Ratio = 0.5,
    epsilon: Ratio | None = 0.15,
    seed: Seed = 0,
    basis: Basis = "dense",
) -> Merged:
    """Return DELLA (arXiv 2406.11617, §3: MagPrune, elect, fuse) at λ = 1, truncated to rank k.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
        density: mean probability of keeping an entry.
        epsilon: keep probabilities run over density ± epsilon, by magnitude within a row; none
            for equal ones.
        seed: of the draws, together with the module's name.
        basis: where entries are taken.
    """
    options = PruneOptions(stack.module, density=density, epsilon=epsilon or 0.0, seed=seed)
    return _merge(stack, "della", basis, rank, options)


@merge_method(
    "breadcrumbs",
    paper="arXiv:2312.06795",
    title="Model Breadcrumbs: drop the largest and the smallest entries, then the weighted sum",
    differs="entries are ranked over the module, as in the paper (its code: over each row); the "
    "density comes first where both shares exceed 1; the result is truncated",
    auto_rank="sum",
)
def breadcrumbs(
    stack: Stack,
    *,
    rank: Rank,
    density: Ratio = 0.15,
    gamma: Ratio | None = 0.006,
    basis: Basis = "dense",
) -> Merged:
    """Return Σ weight · breadcrumbs(update) (arXiv 2312.06795, §3), truncated to rank k.

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        density: share of each update's entries that is kept, below the outliers.
        gamma: share of outliers dropped, the largest; none for none.
        basis: where entries are taken.
    """
    options = PruneOptions(stack.module, density=density, gamma=gamma or 0.0)
    return _merge(stack, "breadcrumbs", basis, rank, options)


@merge_method(
    "magnitude_prune",
    paper="arXiv:2306.01708",
    title="TIES' trimming alone: keep the largest entries, then the weighted sum",
    differs="the paper's first step without the others, under the name that PEFT gave it; entries "
    "are ranked per module; the result is truncated",
    auto_rank="sum",
)
def magnitude_prune(
    stack: Stack, *, rank: Rank, density: Ratio = 0.2, basis: Basis = "dense"
) -> Merged:
    """Return Σ weight · trim(update) (arXiv 2306.01708, §4.1 step 1), truncated to rank k.

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        density: share of each update's entries that is kept, the largest.
        basis: where entries are taken.
    """
    return _merge(
        stack, "magnitude_prune", basis, rank, PruneOptions(stack.module, density=density)
    )


@merge_method(
    "sce",
    paper="arXiv:2408.07990",
    title="SCE: select positions of high variance, coefficients from energies, erase minorities",
    differs="weights, which the paper does not have, multiply updates first; coefficients are "
    "brought to a sum of 1 over the members left at each position; the result is truncated",
    auto_rank="sum",
    copies="mean",
)
def sce(stack: Stack, *, rank: Rank, density: Ratio = 0.1, basis: Basis = "dense") -> Merged:
    """Return SCE of FuseChat (arXiv 2408.07990, §3.3: select, calculate, erase), truncated.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
        density: share of positions selected, those where members differ most.
        basis: where entries are taken.
    """
    return _merge(stack, "sce", basis, rank, PruneOptions(stack.module, density=density))
