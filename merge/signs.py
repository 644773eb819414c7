"""Sign steps, which resolve conflicts between members entry by entry, and combinations.

A sign step takes pruned tiles (T, rows, cols) and returns them with some entries erased; a
combination takes both and returns rows (rows, cols) of the merged matrix. Weights have multiplied
the members' updates before. Not covered: pruning (`prune`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from merge.dense import Mapped, Rows, Tiles
from merge.prune import PruneOptions

Combination = Callable[[Tiles, Tiles], Rows]

# Shares are clamped from below: where a member whose share is 0, or rounds to it in float32, is the
# only one left, 0 / 0 would erase an entry that has the elected sign.
_LEAST_SHARE = 1e-12


def any_sign(tiles: Tiles, options: PruneOptions) -> Tiles:  # noqa: ARG001  # the shape of a step
    """Erase nothing: conflicting entries cancel in the sum."""
    return tiles


def elect_signs(tiles: Tiles, options: PruneOptions) -> Tiles:
    """Erase entries whose sign is not the elected one (TIES, arXiv 2306.01708, §4.2, eq. 1).

    The elected sign is that of the sum over members; with majority "frequency", the sign of most
    members. A tie elects no sign and erases every entry at its position.
    """
    by_count = options.majority == "frequency"

    def step(tile: Tensor) -> Tensor:
        elected = (tile.sign().sum(0) if by_count else tile.sum(0)).sign_()
        # x · s is positive exactly where the signs agree: clamping and multiplying again erases the
        # rest without a mask, and an elected 0 erases all.
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
        summed = tile.sum(0)  # before the tile becomes a count in place
        return summed.div_(tile.abs_().sign_().sum(0).clamp_(min=1.0))

    return Mapped(elected, lambda: step)


def energy_mean(pruned: Tiles, elected: Tiles) -> Rows:
    """Return the mean over members that have an entry left, weighted by their energies.

    The coefficients of SCE (FuseChat, arXiv 2408.07990, §3.3): Σ x² of a member over that of all
    members, of the entries that pruning kept, before the sign step.
    """
    # In float64: a module has up to 10⁸ entries, whose float32 sum of squares loses digits.
    energy = sum(tile.flatten(1).double().square().sum(1) for tile in pruned)  # (T,)
    assert isinstance(energy, Tensor)  # every update has a row
    share = energy / energy.sum().clamp(min=torch.finfo(energy.dtype).tiny)
    share = share.clamp(min=_LEAST_SHARE).float()

    def step(tile: Tensor) -> Tensor:
        summed = torch.tensordot(share, tile, 1)
        present = torch.tensordot(share, tile.abs_().sign_(), 1)
        return torch.where(present > 0.0, summed / present, 0.0)

    return Mapped(elected, lambda: step)
