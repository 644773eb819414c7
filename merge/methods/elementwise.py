"""The elementwise families: a pruning step, a sign step and a combination make a method.

`TABLE` holds the steps of each method; the functions below it hold papers, options and defaults.
By default a method is the published one, on the dense update of each module, in row tiles, with a
result of rank k. `basis=knots` and `basis=core` apply the same steps to the thin blocks of those
papers: much cheaper, and another method. All differ from their papers in three ways: thresholds and
coefficients are per module, not over a whole model; a weight multiplies its update before any other
step, a negative one merges the negated update; the result is truncated to rank k.
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

# Random directions at the start of the range finder: oversampling, of which Halko, Martinsson and
# Tropp 2011, §4.2, recommend 5 to 10.
_CHANCE = 8
_TRUNCATED = (
    "the result is truncated, on dense updates by a random range finder: at a rank of the members' "
    "sum it kept 98.6 to 100 % of the energy that the best truncation keeps, and single updates "
    "differed from that one by up to 28 %"
)


class Steps(NamedTuple):
    """The steps of a method, in their order."""

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
    """Return the range finder's first directions, (d_in, R + 8): the members' rows and noise.

    The merged matrix is the members' sum plus what pruning and signs change, so its strongest
    directions are near the members' rows, nearer than random ones. The noise covers the rest. It is
    not part of the method and does not depend on the recipe's seed.
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
    "weights); entries are ranked per module; a tie elects no sign; " + _TRUNCATED,
    auto_rank="sum",
    copies="mean",
    work="entries",
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
        density: share of each update's entries kept, the largest.
        majority: the elected sign is that of the sum ("total") or of most members ("frequency").
        basis: of the entries: dense, or the thin one of KnOTS or Core Space.
    """
    options = PruneOptions(stack.module, density=density, majority=majority)
    return _merge(stack, "ties", basis, rank, options)


@merge_method(
    "dare_linear",
    paper="arXiv:2311.03099",
    title="DARE: drop entries at random and rescale the rest, then the weighted sum",
    differs="the paper searches drop rates from 0.1 to 0.9; the default is the middle; "
    + _TRUNCATED,
    auto_rank="sum",
    random_prune=True,
    work="entries",
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
        basis: of the entries: dense, or the thin one of KnOTS or Core Space.
    """
    options = PruneOptions(stack.module, density=density, seed=seed)
    return _merge(stack, "dare_linear", basis, rank, options)


@merge_method(
    "dare_ties",
    paper="arXiv:2311.03099",
    title="DARE instead of TIES' trimming, then signs and disjoint mean as in TIES",
    differs="the authors' code also trims as TIES does after dropping, other tools do not; "
    "weights and signs are as in ties, the default density as in dare_linear; " + _TRUNCATED,
    auto_rank="sum",
    copies="mean",
    random_prune=True,
    work="entries",
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
        basis: of the entries: dense, or the thin one of KnOTS or Core Space.
    """
    options = PruneOptions(stack.module, density=density, majority=majority, seed=seed)
    return _merge(stack, "dare_ties", basis, rank, options)


@merge_method(
    "della",
    paper="arXiv:2406.11617",
    title="DELLA: drop at random, small entries more often, then signs and disjoint mean",
    differs="the window of probabilities shrinks where it would leave (0, 1]; weights and signs "
    "are as in ties; the default epsilon is mergekit's (the authors' command: 0.07); " + _TRUNCATED,
    auto_rank="sum",
    copies="mean",
    random_prune=True,
    work="entries",
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
        epsilon: keep probabilities rise from density - epsilon to density + epsilon with the
            magnitude's rank within a row; none for 0.
        seed: of the draws, together with the module's name.
        basis: of the entries: dense, or the thin one of KnOTS or Core Space.
    """
    options = PruneOptions(stack.module, density=density, epsilon=epsilon or 0.0, seed=seed)
    return _merge(stack, "della", basis, rank, options)


@merge_method(
    "breadcrumbs",
    paper="arXiv:2312.06795",
    title="Model Breadcrumbs: drop the largest and the smallest entries, then the weighted sum",
    differs="entries are ranked over the module, as in the paper (its code: over each row); if "
    "both shares add up to more than 1, the density takes precedence; " + _TRUNCATED,
    auto_rank="sum",
    work="entries",
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
        density: share of each update's entries kept, the largest below the outliers.
        gamma: share of entries dropped as outliers, the largest; none for 0.
        basis: of the entries: dense, or the thin one of KnOTS or Core Space.
    """
    options = PruneOptions(stack.module, density=density, gamma=gamma or 0.0)
    return _merge(stack, "breadcrumbs", basis, rank, options)


@merge_method(
    "magnitude_prune",
    paper="arXiv:2306.01708",
    title="TIES' trimming alone: keep the largest entries, then the weighted sum",
    differs="the first step of the paper alone, under PEFT's name for it; entries are ranked per "
    "module; " + _TRUNCATED,
    auto_rank="sum",
    work="entries",
)
def magnitude_prune(
    stack: Stack, *, rank: Rank, density: Ratio = 0.2, basis: Basis = "dense"
) -> Merged:
    """Return Σ weight · trim(update) (arXiv 2306.01708, §4.1 step 1), truncated to rank k.

    Args:
        stack: the members; weights of any sign.
        rank: the largest rank of the result.
        density: share of each update's entries kept, the largest.
        basis: of the entries: dense, or the thin one of KnOTS or Core Space.
    """
    return _merge(
        stack, "magnitude_prune", basis, rank, PruneOptions(stack.module, density=density)
    )


@merge_method(
    "sce",
    paper="arXiv:2408.07990",
    title="SCE: select positions of high variance, coefficients from energies, erase minorities",
    differs="weights, which the paper does not have, multiply updates first; coefficients are "
    "normalised to a sum of 1 over the members left at each position; " + _TRUNCATED,
    auto_rank="sum",
    copies="mean",
    work="entries",
)
def sce(stack: Stack, *, rank: Rank, density: Ratio = 0.1, basis: Basis = "dense") -> Merged:
    """Return SCE of FuseChat (arXiv 2408.07990, §3.3: select, calculate, erase), truncated.

    Args:
        stack: the members; a negative weight merges the negated update.
        rank: the largest rank of the result.
        density: share of positions selected, those where members differ most.
        basis: of the entries: dense, or the thin one of KnOTS or Core Space.
    """
    return _merge(stack, "sce", basis, rank, PruneOptions(stack.module, density=density))
