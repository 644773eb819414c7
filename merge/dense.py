"""Dense updates in row tiles, never whole in memory, and the low-rank result of such a matrix.

Covered: the tiles of updates, and the rank-k approximation of a matrix given as tiles. Not covered:
the steps on a tile (`prune`, `signs`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from merge.factors import Factors, Merged
from merge.linalg import truncated_sum

Tiles = Iterable[Tensor]
"""Row tiles of T matrices, (T, rows, cols) each, top to bottom; iterations repeat exactly."""
Rows = Iterable[Tensor]
"""Row tiles of one matrix, (rows, cols) each, top to bottom; iterations repeat exactly."""

# Entries of a tile over all members, 4 MB in float32: small enough that the elementwise steps find
# the tile in the second-level cache, large enough that the matrix products run at full speed.
TILE_ENTRIES = 2**20
# Power iterations of the range finder. Two keep 99 % of the energy that the best approximation
# keeps; random prunes keep less, because their noise has no decaying spectrum. Every further one
# recomputes all tiles once more.
READINGS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Updates:
    """Tiles of the members' dense updates, computed on iteration and not kept."""

    members: tuple[Factors, ...]  # T of one shape, scale 1

    def __iter__(self) -> Iterator[Tensor]:
        """Yield (T, rows, d_in) float32 tiles.

        Their height follows from the shapes alone. Thresholds are exact order statistics, so
        every iteration, on any number of workers, must give the same bits.
        """
        (d_out, _), (_, d_in) = self.members[0].b.shape, self.members[0].a.shape
        rows = max(1, TILE_ENTRIES // (d_in * len(self.members)))
        for top in range(0, d_out, rows):
            tile = self.members[0].a.new_empty(len(self.members), min(rows, d_out - top), d_in)
            for f, update in zip(self.members, tile, strict=True):
                torch.mm(f.b[top : top + rows], f.a, out=update)
            yield tile


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """Tiles with a step applied; `begin` returns the step of one iteration.

    A step that draws gets new generators from it, so that a second iteration repeats the draws.
    """

    tiles: Tiles
    begin: Callable[[], Callable[[Tensor], Tensor]]

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each tile after the step, which may change it in place."""
        return map(self.begin(), self.tiles)


def low_rank(
    matrix: Rows, shape: tuple[int, int], *, start: Tensor, rank: int, size: float
) -> Merged:
    """Return an approximation of size · matrix of exactly `rank` MSUs, and the energy it keeps.

    A randomised range finder that sees row tiles (Halko, Martinsson and Tropp 2011, §4.5; block
    Krylov as Musco and Musco 2015, algorithm 2): MᵀMX adds up over tiles, so that one reading of
    the matrix is a whole power iteration. The orthonormal basis V of both iterates gives
    M ≈ (MV)Vᵀ in a last reading. Where V would be as wide as the matrix, the matrix itself is
    decomposed, which is exact.

    Args:
        matrix: (d_out, d_in) float32 in tiles; read three times.
        shape: (d_out, d_in).
        start: (d_in, width) float32, directions to begin with, more than `rank`.
        rank: at least 1; MSUs beyond min(shape) are zero.
        size: positive, multiplied in at the end.
    """
    # A basis as wide as the matrix saves nothing; small modules take the exact way.
    if READINGS * start.shape[1] >= min(shape):
        return from_matrix(torch.cat(list(matrix)), rank=rank, size=size)
    right = _krylov(matrix, start)  # V, (d_in, 2 width)
    # Filled in place: a small result kept from each tile, between large ones that are freed, would
    # fragment the heap and keep the process at its peak.
    left = right.new_empty(shape[0], right.shape[1])
    top, square = 0, 0.0
    for tile in matrix:
        torch.mm(tile, right, out=left[top : top + len(tile)])
        top += len(tile)
        square += float(torch.linalg.vector_norm(tile)) ** 2
    sketched = Factors(right.mT, left)
    merged = truncated_sum([sketched], [size], rank)
    assert merged.energy is not None  # `truncated_sum` always sets it
    # Two losses multiply: what the basis V does not see of M, and what the truncation drops of MV.
    # The float32 tiles' own sum of squares is the reference; rounding may put the share above 1.
    seen = float(torch.linalg.vector_norm(sketched.b.double())) ** 2
    return Merged(merged.factors, min(merged.energy * seen / square, 1.0) if square else 1.0)


def _krylov(matrix: Rows, start: Tensor) -> Tensor:
    """Return an orthonormal basis of [MᵀMX, (MᵀM)²X], (d_in, 2 width) float32, for X = start."""
    right, iterates = _orthonormal(start), []
    for _ in range(READINGS):
        # Orthonormal again before each product: powers of MᵀM stretch the columns towards one
        # direction until float32 holds no other.
        power = torch.zeros_like(right)
        for tile in matrix:
            power.addmm_(tile.mT, tile @ right)
        right = _orthonormal(power)
        iterates.append(right)
    # Both iterates, not the last alone: the block Krylov space converges faster at no more reading.
    return _orthonormal(torch.cat(iterates, dim=1))


def _orthonormal(x: Tensor) -> Tensor:
    # In float64: columns of powers are nearly parallel, and Householder QR in float32 would return
    # noise for the directions that distinguish them.
    basis: Tensor = torch.linalg.qr(x.double())[0]
    return basis.float().contiguous()


def from_matrix(matrix: Tensor, *, rank: int, size: float, left: Tensor | None = None) -> Merged:
    """Return size · left · matrix, or size · matrix, at exactly `rank` MSUs.

    Args:
        matrix: (rows, cols).
        rank: at least 1; MSUs beyond what the matrix has are zero.
        size: positive.
        left: (d_out, rows); None stands for the identity.
    """
    rows, cols = matrix.shape
    if left is None and rows > cols:
        a, b = torch.eye(cols).to(matrix), matrix
    else:
        a, b = matrix, torch.eye(rows).to(matrix) if left is None else left
    # The identity goes to the narrower side, so that the factorisation is exact and no larger than
    # the matrix. Zero MSUs bring the rank up to what the recipe announced.
    missing = max(rank - len(a), 0)
    padded = Factors(pad(a, (0, 0, 0, missing)), pad(b, (0, missing)))
    merged = truncated_sum([padded], [size], rank)
    return Merged(merged.factors, merged.energy)  # the mix refers to `padded`, not to members
