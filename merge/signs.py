"""Sign steps, which settle conflicts between members entry by entry, and the sums that end them.

A sign step takes pruned tiles (T, rows, cols) and returns them with some entries erased; a
combination takes both and returns rows (rows, cols) of the merged matrix. Members come weighed: a
weight has multiplied its update already. Not covered: pruning (`prune`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from merge.dense import Mapped, Rows, Tiles
from merge.prune import PruneOptions

Combination = Callable[[Tiles, Tiles], Rows]

# A coefficient below this is lost beside any other, and alone it only has to be a number.
_LEAST_SHARE = 1e-12


def any_sign(tiles: Tiles, options: PruneOptions) -> Tiles:  # noqa: ARG001  # the shape of a step
    """Erase nothing: conflicting entries cancel in the sum."""
    return tiles


def elect_signs(tiles: Tiles, options: PruneOptions) -> Tiles:
    """Erase entries whose sign is not the elected one (TIES, arXiv 2306.01708, §4.2, eq. 1).

    The elected sign is that of the sum over members; with majority "frequency", the one that more
    members have. Where it is a draw, nobody is elected and every entry is erased.
    """
    by_count = options.majority == "frequency"

    def step(tile: Tensor) -> Tensor:
        elected = (tile.sign().sum(0) if by_count else tile.sum(0)).sign_()
        return tile.mul_(elected).clamp_(min=0.0).mul_(elected)

    return Mapped(tiles, lambda: step)


def total(pruned: Tiles, elected: Tiles) -> Rows:  # noqa: ARG001  # the shape of a combination
    """Return Σ over members (task arithmetic, arXiv 2212.04089, §2)."""
    return Mapped(elected, lambda: lambda tile: tile.sum(0))


def mean(pruned: Tiles, elected: Tiles) -> Rows:  # noqa: ARG001  # the shape of a combination
    """Return the mean over all T members."""
    return Mapped(elected, lambda: lambda tile: tile.mean(0))


def disjoint_mean(pruned: Tiles, elected: Tiles) -> Rows:  # noqa: ARG001  # as above
    """Return the mean over members that have an entry left (TIES, arXiv 2306.01708, §4.3)."""

    def step(tile: Tensor) -> Tensor:
        summed = tile.sum(0)
        return summed.div_(tile.abs_().sign_().sum(0).clamp_(min=1.0))

    return Mapped(elected, lambda: step)


def energy_mean(pruned: Tiles, elected: Tiles) -> Rows:
    """Return the mean over members that have an entry left, weighted by their energies.

    The coefficients of SCE (FuseChat, arXiv 2408.07990, §3.3): Σ x² of a member over that of all,
    taken of what pruning left, before conflicts were erased.
    """
    energy = sum(tile.flatten(1).double().square().sum(1) for tile in pruned)  # (T,)
    assert isinstance(energy, Tensor)  # every update has a row
    share = energy / energy.sum().clamp(min=torch.finfo(energy.dtype).tiny)
    share = share.clamp(min=_LEAST_SHARE).float()

    def step(tile: Tensor) -> Tensor:
        summed = torch.tensordot(share, tile, 1)
        present = torch.tensordot(share, tile.abs_().sign_(), 1)
        return torch.where(present > 0.0, summed / present, 0.0)

    return Mapped(elected, lambda: step)
