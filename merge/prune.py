"""Pruning steps: which entries of each member's update survive, and their factors.

Every step takes tiles (T, rows, cols) and `PruneOptions`, and returns tiles of the same shapes.
Steps that rank entries read all tiles twice first and are exact for every tiling: thresholds are
the order statistics themselves. At least one entry survives every ranking, and so do entries that
tie with the last survivor. Not covered: signs and sums (`signs`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from merge.dense import Mapped, Tiles
from merge.seeds import generator_for

Majority = Literal["total", "frequency"]

# A float32 without its sign has 31 bits: the exponent and the mantissa's head, then the rest. Two
# histograms of 2¹⁶ and 2¹⁵ counters fit the cache; one of 2³¹ would be the size of a model.
_COARSE, _FINE = 16, 15
# Entries of all members that are kept for a partition, 34 MB: blocks in a thin basis, not the dense
# updates of large modules.
PARTITIONED = 2**23
_DRAWS = 2.0**24  # torch.rand gives multiples of 2⁻²⁴


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """The options of all steps; each step reads its own."""

    module: str  # draws depend on it
    density: float = 1.0  # share of entries kept, in (0, 1]
    gamma: float = 0.0  # share of the largest dropped, in [0, 1)
    epsilon: float = 0.0  # half the width of the window of keep probabilities
    majority: Majority = "total"
    seed: int = 0

    def kept(self, entries: int) -> int:
        """Return how many entries a ranking keeps, at least 1."""
        return max(1, round(self.density * entries))

    def generators(self, count: int) -> list[torch.Generator]:
        """Return one generator per member, in the same state at every call.

        One each, so that members draw independently and a tile's height cannot change a draw.
        """
        return [generator_for(self.seed, f"{self.module}\0{i}") for i in range(count)]


Step = Callable[[Tiles, PruneOptions], Tiles]


def keep_all(tiles: Tiles, options: PruneOptions) -> Tiles:  # noqa: ARG001  # the shape of a step
    """Prune nothing."""
    return tiles


def keep_largest(tiles: Tiles, options: PruneOptions) -> Tiles:
    """Keep each member's `density` share of largest magnitudes (TIES, arXiv 2306.01708, §4.1)."""
    least = _below(largest(tiles, lambda n: [options.kept(n)]))[:, 0].tolist()

    def step(tile: Tensor) -> Tensor:
        # hardshrink is x where |x| > bound, in one pass; a mask and a product would take three.
        for x, bound in zip(tile, least, strict=True):
            x.copy_(hardshrink(x, bound))
        return tile

    return Mapped(tiles, lambda: step)


def keep_middle(tiles: Tiles, options: PruneOptions) -> Tiles:
    """Keep the `density` share below the `gamma` share of largest (Breadcrumbs, 2312.06795, §3).

    The density comes first: where both shares together exceed 1, fewer of the largest are dropped.
    """

    def places(entries: int) -> list[int]:
        kept = options.kept(entries)
        dropped = min(round(options.gamma * entries), entries - kept)
        return [dropped + 1, dropped + kept]

    ends = largest(tiles, places)  # (T, 2)
    most, least = ends[:, :1, None], _below(ends[:, 1:])[:, :, None]

    def step(tile: Tensor) -> Tensor:
        size = tile.abs()
        return tile.mul_((size > least.to(tile)) & (size <= most.to(tile)))

    return Mapped(tiles, lambda: step)


def keep_random(tiles: Tiles, options: PruneOptions) -> Tiles:
    """Keep each entry with probability `density` and divide it by that (DARE, 2311.03099, eq. 2).

    Every member draws from its own generator, row by row, one `torch.rand` an entry, and keeps the
    entry if the draw is below the density. The division is by the exact probability of that event,
    so pruning is unbiased.
    """
    # Draws are multiples of 2⁻²⁴, so "below the density" has the probability of the next multiple:
    # dividing by the density itself would bias small densities, and 1e-12 would never keep any.
    probability = math.ceil(options.density * _DRAWS) / _DRAWS

    def begin() -> Callable[[Tensor], Tensor]:
        generators: list[torch.Generator] = []

        def step(tile: Tensor) -> Tensor:
            # The number of members is known from the first tile on.
            generators.extend(options.generators(len(tile) - len(generators)))
            for x, generator in zip(tile, generators, strict=True):
                x.mul_(_uniform(x, generator).lt_(probability))
            return tile.div_(probability)

        return step

    return Mapped(tiles, begin)


def keep_ranked(tiles: Tiles, options: PruneOptions) -> Tiles:
    """Keep entries with a probability that grows with their rank in their row, divide by it.

    MagPrune (DELLA, arXiv 2406.11617, §3.1): from the smallest magnitude of a row to the largest,
    the probability rises linearly over density ± epsilon, and each survivor is divided by its own.
    The window shrinks to stay inside [density / 2, 1]. Draws are as in `keep_random`, taken in the
    order of rising magnitude within each row.
    """
    # Without the lower bound the smallest entries would be divided by a probability near 0, and the
    # few that survive would outweigh the row.
    epsilon = min(options.epsilon, 1.0 - options.density, options.density / 2)

    def begin() -> Callable[[Tensor], Tensor]:
        generators: list[torch.Generator] = []

        def step(tile: Tensor) -> Tensor:
            generators.extend(options.generators(len(tile) - len(generators)))
            probability = _rising(options.density, epsilon, tile.shape[2]).to(tile)  # (cols,)
            for x, generator in zip(tile, generators, strict=True):
                factor = _uniform(x, generator).lt_(probability).div_(probability)
                x.mul_(torch.empty_like(x).scatter_(1, _rising_order(x), factor))
            return tile

        return step

    return Mapped(tiles, begin)


def keep_varied(tiles: Tiles, options: PruneOptions) -> Tiles:
    """Keep the `density` share of positions where members differ most, for all members alike.

    SCE's selection (FuseChat, arXiv 2408.07990, §3.3): positions ranked by the variance over
    members. If all variances are equal (one member, or copies), all positions are kept.
    """
    variances = Mapped(tiles, lambda: _variance)
    least = float(_below(largest(variances, lambda n: [options.kept(n)])))
    return Mapped(tiles, lambda: lambda tile: tile.mul_(_variance(tile) > least))


def largest(tiles: Tiles, places: Callable[[int], Sequence[int]]) -> Tensor:
    """Return the k-th largest magnitudes of each of T matrices, (T, places), exactly.

    Matrices of up to `PARTITIONED` entries together are kept and partitioned.

    Args:
        tiles: finite float32.
        places: returns the wanted k for a number of entries; 1 is the largest.
    """
    whole = _whole(tiles)
    return _by_radix(tiles, places) if whole is None else _by_partition(whole, places)


def _whole(tiles: Tiles) -> list[Tensor] | None:
    """Return the magnitudes of all tiles, (T, entries) each; None where they are too many."""
    whole: list[Tensor] = []
    left = PARTITIONED
    for tile in tiles:
        left -= tile.numel()
        if left < 0:
            return None
        whole.append(tile.flatten(1).abs_().cpu())
    return whole


def _by_partition(whole: Sequence[Tensor], places: Callable[[int], Sequence[int]]) -> Tensor:
    entries = sum(tile.shape[1] for tile in whole)
    at = [entries - place for place in places(entries)]
    rows = []
    for matrix in zip(*whole, strict=True):
        magnitudes = torch.cat(matrix).numpy()
        magnitudes.partition(at)  # numpy's: ten times as fast as `torch.kthvalue`
        rows.append(magnitudes[at])
    return torch.from_numpy(np.stack(rows))


def _by_radix(tiles: Tiles, places: Callable[[int], Sequence[int]]) -> Tensor:
    """Select by the bits of |x|, which sort as the numbers do.

    One reading counts the upper 16 bits, a second counts the lower 15 bits of entries whose upper
    bits match. Memory is 2¹⁶ counters per matrix and place, however large the matrix. A sort or a
    partition would need the whole matrix; sampled thresholds would not be exact.
    """
    heads = _counted(tiles, lambda bits, _: [bits >> _FINE], _COARSE)  # (T, 1, 2¹⁶)
    wanted = places(int(heads[0].sum()))
    bins = [[_descend(counts[0], place) for place in wanted] for counts in heads]
    tails = _counted(
        tiles,
        lambda bits, i: [bits[bits >> _FINE == head] & (2**_FINE - 1) for head, _ in bins[i]],
        _FINE,
    )  # (T, places, 2¹⁵)
    bits = [
        [head << _FINE | _descend(tail, left)[0] for (head, left), tail in zip(f, t, strict=True)]
        for f, t in zip(bins, tails, strict=True)
    ]
    return torch.tensor(bits, dtype=torch.int32).view(torch.float32)


def _counted(tiles: Tiles, digits: Callable[[Tensor, int], Sequence[Tensor]], width: int) -> Tensor:
    """Return histograms of digits of the magnitudes' bits over all tiles.

    Args:
        tiles: T matrices; a tile's entries become magnitudes in place.
        digits: from a row's bits (entries,) int32 and its number to `kinds` tensors of digits.
        width: bits of a digit.

    Returns:
        (T, kinds, 2^width) int64.
    """
    counts: list[Tensor] = []  # one (T, kinds, 2^width) at a time
    for tile in tiles:
        bits = tile.flatten(1).abs_().view(torch.int32)
        here = [
            torch.stack([torch.bincount(digit, minlength=2**width) for digit in digits(row, i)])
            for i, row in enumerate(bits)
        ]
        counts = [torch.stack(here) if not counts else counts[0].add_(torch.stack(here))]
    return counts[0]


def _descend(counts: Tensor, place: int) -> tuple[int, int]:
    """Return the bin of the place-th largest, and its place among that bin's entries."""
    above = counts.flip(0).cumsum(0)  # entries in this bin and all larger ones
    down = int(torch.searchsorted(above, place))
    return len(counts) - 1 - down, place - int(above[down] - counts[-1 - down])


def _below(x: Tensor) -> Tensor:
    """Return the float32 just below x, so that `> result` means `>= x`; -1 for 0."""
    return torch.where(x > 0.0, torch.nextafter(x, torch.zeros(())), -1.0)


def _variance(tile: Tensor) -> Tensor:
    """Return the variance over members, (1, rows, cols)."""
    return (tile - tile.mean(0)).square_().mean(0, keepdim=True)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return draws from [0, 1) in the shape of x, equal on every device: they are the CPU's."""
    return torch.rand(x.shape, generator=generator).to(x)


def _rising(density: float, epsilon: float, cols: int) -> Tensor:
    """Return keep probabilities by rising magnitude, (cols,) float32 multiples of 2⁻²⁴."""
    if cols == 1:
        epsilon = 0.0  # one entry has no rank: linspace would give it the lower end
    line = torch.linspace(density - epsilon, density + epsilon, cols, dtype=torch.float64)
    return ((line * _DRAWS).ceil() / _DRAWS).clamp(max=1.0).float()


def _rising_order(x: Tensor) -> Tensor:
    """Return the columns of each row by rising magnitude, equal ones from the left, int64.

    A key holds the magnitude's bits above the column's number. numpy sorts such integers five times
    as fast as torch or numpy argsort floats, and ties are settled without a stable sort.
    """
    columns = torch.arange(x.shape[1])
    keys = (x.abs().view(torch.int32).long() << 32).cpu().bitwise_or_(columns)
    keys.numpy().sort(axis=1)
    return keys.bitwise_and_(2**32 - 1).to(x.device)
