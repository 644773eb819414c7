"""Pruning steps: exact order statistics, unbiased draws, and correct results on tiny tensors."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merge.prune import (
    PruneOptions,
    Step,
    keep_all,
    keep_largest,
    keep_middle,
    keep_random,
    keep_ranked,
    keep_varied,
    largest,
)


class Given:
    """Matrices (T, rows, cols) in tiles of some rows; every tile is a copy and may be modified."""

    def __init__(self, x: Tensor, rows: int = 1000) -> None:
        self.x = x
        self.rows = rows

    def __iter__(self) -> Iterator[Tensor]:
        """Yield copies of row tiles."""
        return (tile.clone() for tile in torch.split(self.x, self.rows, dim=1))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Return Gaussian noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def applied(step: Step, x: Tensor, rows: int = 1000, **options: object) -> Tensor:
    """Return x (T, rows, cols) after a pruning step, read in tiles of `rows` rows."""
    return torch.cat(list(step(Given(x, rows), PruneOptions("m", **options))), dim=1)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=60),
    repeats=st.integers(1, 4),
    partitioned=st.sampled_from([0, 20, 10**6]),
    data=st.data(),
)
def test_largest_is_the_order_statistic(
    values: list[float], repeats: int, partitioned: int, data: st.DataObject
) -> None:
    """The k-th largest magnitude is exact for any float32, with ties, zeros and subnormals, whether
    the matrices are small enough to be kept or not."""
    x = torch.tensor(values * repeats)
    places = data.draw(st.lists(st.integers(1, len(x)), min_size=1, max_size=3))
    expected = x.abs().sort(descending=True).values[[place - 1 for place in places]]

    with mock.patch("merge.prune.PARTITIONED", partitioned):
        found = largest(Given(torch.stack([x, 2 * x])[:, :, None], 7), lambda _: places)

    assert torch.equal(torch.stack([expected, 2 * expected]), found)


def test_largest_knows_how_many_entries_there_are() -> None:
    """`largest` passes the number of entries of one matrix to `places`, for any tiling."""
    asked: list[int] = []

    for partitioned in (0, 2**20):
        with mock.patch("merge.prune.PARTITIONED", partitioned):
            largest(Given(noise(3, 10, 7), 4), lambda n: asked.append(n) or [1])  # type: ignore[func-returns-value]

    assert [70, 70] == asked


@pytest.mark.parametrize("step", [keep_largest, keep_middle, keep_random, keep_ranked, keep_varied])
@pytest.mark.parametrize("rows", [1, 3, 64])
def test_tiling_does_not_show(step: Step, rows: int) -> None:
    """A step gives the same entries, bit for bit, for any tiling of the matrices."""
    x = noise(3, 17, 23)
    options: dict[str, Any] = {"density": 0.4, "gamma": 0.05, "epsilon": 0.1, "seed": 3}

    assert torch.equal(applied(step, x, **options), applied(step, x, rows, **options))


@pytest.mark.parametrize(
    "step", [keep_all, keep_largest, keep_middle, keep_random, keep_ranked, keep_varied]
)
def test_density_1_keeps_everything(step: Step) -> None:
    """At density 1 no entry is dropped or rescaled, whatever the other options."""
    x = noise(3, 17, 23)

    assert torch.equal(x, applied(step, x, gamma=0.3, epsilon=0.2))


@pytest.mark.parametrize("step", [keep_random, keep_ranked])
def test_a_second_reading_gives_the_same(step: Step) -> None:
    """Tiles are read several times, and every reading makes the same draws."""
    tiles = step(Given(noise(2, 9, 11)), PruneOptions("m", density=0.5, epsilon=0.2))

    first, second = (torch.cat(list(tiles), dim=1) for _ in range(2))

    assert torch.equal(first, second)


@pytest.mark.parametrize("count", [1, 2, 64, 99, 100])
@pytest.mark.parametrize("density", [1e-9, 0.2, 0.5, 0.999])
def test_a_ranking_always_keeps_something(count: int, density: float) -> None:
    """The number of entries kept follows the density and is at least one."""
    x = noise(1, 1, count)
    expected = max(1, round(density * count))

    kept = applied(keep_largest, x, density=density)
    middle = applied(keep_middle, x, density=density, gamma=0.01)

    assert expected == int((kept != 0).sum()) == int((middle != 0).sum())


def test_middle_drops_the_largest_first() -> None:
    """Of 1 … 100, dropping the largest 0.1 and then keeping a share of 0.3 leaves 61 … 90."""
    x = (torch.randperm(100, generator=torch.Generator().manual_seed(0)) + 1.0)[None, None]

    kept = applied(keep_middle, x, density=0.3, gamma=0.1)

    assert list(range(61, 91)) == sorted(int(value) for value in kept[kept != 0])


@pytest.mark.parametrize("step", [keep_largest, keep_middle])
def test_entries_that_tie_survive_together(step: Step) -> None:
    """Where all magnitudes are equal, all entries are kept."""
    x = torch.tensor([1.0, -1.0]).repeat(1, 8, 4)

    assert torch.equal(x, applied(step, x, density=0.25, gamma=0.1))


@pytest.mark.parametrize("step", [keep_largest, keep_middle, keep_random, keep_ranked, keep_varied])
def test_nothing_stays_nothing(step: Step) -> None:
    """Every step maps a zero update to zero, without NaN."""
    x = torch.zeros(2, 4, 5)

    assert torch.equal(x, applied(step, x, density=0.3, gamma=0.1, epsilon=0.1))


@pytest.mark.parametrize("step", [keep_random, keep_ranked])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_random_steps_are_unbiased(step: Step, density: float) -> None:
    """The mean over seeds is the input: survivors are divided by the probability of surviving."""
    x = noise(2, 6, 8)
    draws = 3000

    total = sum(
        applied(step, x, density=density, epsilon=0.08, seed=seed).double() for seed in range(draws)
    )

    # Each entry's mean has the relative deviation √((1/p - 1) / draws); 5 of them are allowed.
    least = density - 0.08 if step is keep_ranked else density
    error = ((total / draws - x) / x).abs().max()
    assert error < 5 * ((1 / max(least, density / 2) - 1) / draws) ** 0.5


def test_a_probability_below_the_draws_resolution_is_counted_as_it_is() -> None:
    """A draw is a multiple of 2⁻²⁴, so survivors at a density of 1e-12 are divided by 2⁻²⁴."""
    tiles = keep_random(Given(torch.ones(1, 512, 4096)), PruneOptions("m", density=1e-12, seed=11))
    values = torch.cat(list(tiles), dim=1).flatten().tolist()

    assert set(values) <= {0.0, 2.0**24}


def test_members_draw_apart() -> None:
    """Two members, two modules or two seeds have different masks."""
    x = torch.ones(2, 16, 16)
    here = applied(keep_random, x, density=0.5)
    there = torch.cat(list(keep_random(Given(x), PruneOptions("n", density=0.5))), dim=1)
    later = applied(keep_random, x, density=0.5, seed=1)

    assert not torch.equal(here[0], here[1])
    assert not torch.equal(here, there)
    assert not torch.equal(here, later)


def test_ranked_probabilities_rise_with_magnitude() -> None:
    """In each row the smallest survive at density - epsilon, the largest at density + epsilon."""
    x = torch.arange(1.0, 12.0).expand(1, 20000, 11)  # a row of 11 ranks, many times

    kept = applied(keep_ranked, x, density=0.5, epsilon=0.2)[0]

    share = (kept != 0).double().mean(0)
    torch.testing.assert_close(
        share, torch.linspace(0.3, 0.7, 11, dtype=torch.float64), atol=0.02, rtol=0.0
    )
    survivors = kept.amax(0) / x[0, 0]
    torch.testing.assert_close(survivors, 1 / torch.linspace(0.3, 0.7, 11), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("density", "epsilon"), [(0.05, 0.4), (0.9, 0.4), (1e-9, 0.15)])
def test_the_window_of_probabilities_shrinks_to_fit(density: float, epsilon: float) -> None:
    """Probabilities stay in (0, 1]: results are finite and at most 2 / density times the input."""
    x = noise(1, 30, 40)

    kept = applied(keep_ranked, x, density=density, epsilon=epsilon)

    assert torch.isfinite(kept).all()
    assert (kept.abs() <= x.abs() * 2.0 / density * (1 + 1e-6)).all()
    assert ((kept == 0) | (kept.abs() >= x.abs() * (1 - 1e-6))).all()


def test_varied_keeps_the_same_positions_of_all_members() -> None:
    """The positions where members differ most are kept in all members, the others in none."""
    x = torch.zeros(2, 1, 4)
    x[0, 0] = torch.tensor([1.0, 5.0, 3.0, 0.0])
    x[1, 0] = torch.tensor([1.0, -5.0, 1.0, 0.1])

    kept = applied(keep_varied, x, density=0.5)

    assert [[0.0, 5.0, 3.0, 0.0], [0.0, -5.0, 1.0, 0.0]] == kept[:, 0].tolist()


def test_varied_keeps_all_of_one_member() -> None:
    """A single member has no differences to rank, so none of its entries is dropped."""
    x = noise(1, 5, 6)

    assert torch.equal(x, applied(keep_varied, x, density=0.1))
