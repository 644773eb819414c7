"""Dense updates in tiles, and matrices brought to a rank without being held in memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from merge import dense
from merge.dense import Mapped, Updates, from_matrix, low_rank
from tests.laws.laws import random_factors, update


def test_tiles_are_the_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles cover the update from top to bottom, also where a tile is smaller than a row."""
    members = tuple(random_factors(i, r, 20, 15, scale=1.0) for i, r in enumerate((3, 1, 5)))
    expected = torch.stack([f.b @ f.a for f in members])
    for entries in (1, 20 * 3 * 4, 10**6):
        monkeypatch.setattr(dense, "TILE_ENTRIES", entries)

        tiles = list(Updates(members))

        assert len(tiles) == -(-15 // max(1, entries // 60))
        torch.testing.assert_close(torch.cat(tiles, dim=1), expected)


def test_mapped_begins_anew() -> None:
    """Each iteration over mapped tiles runs the step from the beginning."""
    counts: list[int] = []

    def begin() -> Callable[[Tensor], Tensor]:
        counts.append(0)

        def step(tile: Tensor) -> Tensor:
            counts[-1] += 1
            return tile

        return step

    tiles = Mapped([torch.zeros(1, 1, 1)] * 3, begin)
    for _ in range(2):
        list(tiles)

    assert [3, 3] == counts


def noisy(d_out: int, d_in: int, rank: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return a matrix of a rank plus noise, and random directions to start from."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(d_out, rank, generator=generator) @ torch.randn(rank, d_in, generator=generator)
    x += noise * torch.randn(d_out, d_in, generator=generator)
    return x, torch.randn(d_in, 24, generator=generator)


@pytest.mark.parametrize("shape", [(40, 300), (300, 40)])
@pytest.mark.parametrize("rank", [1, 7, 60])
def test_small_matrices_are_decomposed_exactly(shape: tuple[int, int], rank: int) -> None:
    """Where the range finder would be as wide as the matrix, the result is the truncated SVD."""
    x, start = noisy(*shape, 10, 1.0)
    u, s, v = torch.linalg.svd(x.double(), full_matrices=False)

    result = low_rank([x[:20], x[20:]], shape, start=start, rank=rank, size=2.0)

    torch.testing.assert_close(
        update(result.factors), 2.0 * (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-4, rtol=1e-6
    )
    assert rank == result.factors.rank
    assert result.energy == pytest.approx(
        float(s[:rank].square().sum() / s.square().sum()), rel=1e-6
    )


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_large_matrices_keep_nearly_all_that_can_be_kept(noise: float) -> None:
    """The range finder keeps 99.5 % of the best approximation's energy and reports its share."""
    x, start = noisy(250, 400, 10, noise)
    values = torch.linalg.svdvals(x.double()).square()

    result = low_rank(list(torch.split(x, 60)), (250, 400), start=start, rank=10, size=1.0)

    best = float(values[:10].sum() / values.sum())
    error = float((x.double() - update(result.factors)).square().sum() / values.sum())
    assert result.energy is not None
    assert 0.995 * best < result.energy <= best * (1 + 1e-6)
    assert result.energy == pytest.approx(1.0 - error, abs=1e-5)


def test_a_zero_matrix_is_zero() -> None:
    """A zero matrix gives a zero result, with all of its energy kept."""
    result = low_rank([torch.zeros(300, 200)], (300, 200), start=noisy(3, 200, 1, 1.0)[1], rank=4,
                      size=1.0)  # fmt: skip

    assert not update(result.factors).any()
    assert result.energy == 1.0


def test_from_matrix_with_a_basis() -> None:
    """`left` maps the rows to outputs; a matrix with fewer rows than the rank leaves zero MSUs."""
    generator = torch.Generator().manual_seed(0)
    x, left = torch.randn(3, 20, generator=generator), torch.randn(15, 3, generator=generator)

    result = from_matrix(x, rank=5, size=0.5, left=left)

    expected = 0.5 * left.double() @ x.double()
    torch.testing.assert_close(update(result.factors), expected, atol=1e-6, rtol=0.0)
    assert 5 == result.factors.rank
    assert result.mix is None


_PEAK = """
import resource, torch
torch.set_num_threads(1)
from merge.factors import Factors, Stack
from merge.methods.elementwise import ties

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def stack(d_out, d_in):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)
    return Stack("m", tuple(Factors(draw(16, d_in), draw(d_out, 16)) for _ in range(5)), (1.0,) * 5)

ties(stack(600, 500), rank=16)  # libraries and work spaces
large = stack(14336, 4096)
before = peak()
ties(large, rank=16)
print((peak() - before) // 1024)
"""


@pytest.mark.slow
def test_memory_of_a_large_module_is_bounded() -> None:
    """TIES of five members at (14336, 4096), 235 MB each when dense, takes less than 200 MB."""
    output = subprocess.run(
        [sys.executable, "-c", _PEAK],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert int(output) < 200
