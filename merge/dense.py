"""Dense updates that are never in memory whole: row tiles in, a low-rank result out.

Covered: reading updates as tiles, and bringing a matrix that exists only as tiles to rank k. Not
covered: what happens to a tile (`prune`, `signs`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from merge.factors import Factors, Merged
from merge.linalg import truncated_sum

Tiles = Iterable[Tensor]
"""Row tiles of T matrices, (T, rows, cols) each, top to bottom; every iteration gives the same."""
Rows = Iterable[Tensor]
"""Row tiles of one matrix, (rows, cols) each; every iteration gives the same."""

# Entries of a tile over all members: few enough for the cache, enough for the matrix products.
TILE_ENTRIES = 2**20
# Power iterations of the range finder: two keep 99 % of what the best approximation keeps, but for
# random prunes, whose noise is as wide as the matrix.
READINGS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Updates:
    """Tiles of the members' dense updates, each made when it is asked for and then forgotten."""

    members: tuple[Factors, ...]  # T of one shape, scale 1

    def __iter__(self) -> Iterator[Tensor]:
        """Yield (T, rows, d_in) float32 tiles; their bits depend on shapes and inputs alone."""
        (d_out, _), (_, d_in) = self.members[0].b.shape, self.members[0].a.shape
        rows = max(1, TILE_ENTRIES // (d_in * len(self.members)))
        for top in range(0, d_out, rows):
            tile = self.members[0].a.new_empty(len(self.members), min(rows, d_out - top), d_in)
            for f, update in zip(self.members, tile, strict=True):
                torch.mm(f.b[top : top + rows], f.a, out=update)
            yield tile


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """Tiles with a step applied. `begin` starts an iteration, with fresh generators if it draws."""

    tiles: Tiles
    begin: Callable[[], Callable[[Tensor], Tensor]]

    def __iter__(self) -> Iterator[Tensor]:
        """Yield each tile after the step, which may change it in place."""
        return map(self.begin(), self.tiles)


def low_rank(
    matrix: Rows, shape: tuple[int, int], *, start: Tensor, rank: int, size: float
) -> Merged:
    """Return size · matrix brought to exactly `rank` MSUs, and the energy that it keeps.

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
    if READINGS * start.shape[1] >= min(shape):
        return from_matrix(torch.cat(list(matrix)), rank=rank, size=size)
    right = _krylov(matrix, start)  # V, (d_in, 2 width)
    left, square = [], 0.0
    for tile in matrix:
        left.append(tile @ right)
        square += float(torch.linalg.vector_norm(tile)) ** 2
    sketched = Factors(right.mT, torch.cat(left))
    merged = truncated_sum([sketched], [size], rank)
    assert merged.energy is not None  # every truncation tells it
    seen = float(torch.linalg.vector_norm(sketched.b.double())) ** 2
    return Merged(merged.factors, min(merged.energy * seen / square, 1.0) if square else 1.0)


def _krylov(matrix: Rows, start: Tensor) -> Tensor:
    """Return an orthonormal basis of [MᵀMX, (MᵀM)²X], (d_in, 2 width) float32, for X = start."""
    right, found = _orthonormal(start), []
    for _ in range(READINGS):
        power = torch.zeros_like(right)
        for tile in matrix:
            power.addmm_(tile.mT, tile @ right)
        right = _orthonormal(power)
        found.append(right)
    return _orthonormal(torch.cat(found, dim=1))


def _orthonormal(x: Tensor) -> Tensor:
    # In float64: columns of powers are nearly parallel.
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
    missing = max(rank - len(a), 0)
    padded = Factors(pad(a, (0, 0, 0, missing)), pad(b, (0, missing)))
    merged = truncated_sum([padded], [size], rank)
    return Merged(merged.factors, merged.energy)  # its mix is of the matrix, not of members
