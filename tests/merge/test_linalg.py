"""Linear algebra on factors against dense float64, and on degenerate inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.factors import Factors
from merge.linalg import canonical, gram, inner, truncated_sum
from tests.laws.laws import random_factors, update


def test_inner_product_is_the_dense_one() -> None:
    """⟨f, g⟩ by the trace formula equals the sum over the dense updates' entries."""
    f, g = random_factors(1, 4, scale=0.5), random_factors(2, 6, scale=-2.0)
    assert inner(f, g) == pytest.approx(float((update(f) * update(g)).sum()), rel=1e-10)


def test_gram_is_symmetric_and_dense_exact() -> None:
    """The Gram matrix is symmetric and contains all inner products."""
    updates = [random_factors(seed, 3) for seed in range(4)]
    flat = torch.stack([update(f).flatten() for f in updates])
    torch.testing.assert_close(gram(updates), flat @ flat.mT)


def test_folding_and_balancing_keep_the_update() -> None:
    """Moving the scale between factors does not change the update, also for negative scales."""
    for scale in (2.0, 0.25, -3.0, 0.0):
        f = random_factors(0, 4, scale=scale)
        for other in (f.folded(), f.balanced()):
            assert 1.0 == other.scale
            torch.testing.assert_close(update(other), update(f), rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    d_in=st.integers(1, 12),
    d_out=st.integers(1, 12),
    rank=st.integers(1, 40),
    seed=st.integers(0, 10**6),
)
def test_truncated_sum_is_the_dense_svd(
    ranks: list[int], d_in: int, d_out: int, rank: int, seed: int
) -> None:
    """For any ranks and shapes, also narrower than the rank, the result is the best approximation,
    with its energy and exactly min(rank, R) MSUs.
    """
    updates = [random_factors(seed + i, r, d_in, d_out) for i, r in enumerate(ranks)]
    weights = [(-1.0) ** i / (i + 1) for i in range(len(ranks))]
    factors, energy, _ = truncated_sum(updates, weights, rank)
    dense = sum(w * update(f) for f, w in zip(updates, weights, strict=True))
    assert isinstance(dense, torch.Tensor)
    sigma = torch.linalg.svdvals(dense)
    lost = float((update(factors) - dense).square().sum())
    assert min(rank, sum(ranks)) == factors.rank
    assert lost == pytest.approx(
        float(sigma[rank:].square().sum()), rel=1e-3, abs=1e-8 * float(sigma.square().sum())
    )
    kept = float(sigma[:rank].square().sum() / sigma.square().sum())
    assert energy == pytest.approx(kept, rel=1e-6)


def test_singular_values_are_split_evenly() -> None:
    """Each MSU has half of its singular value on each side: |a_j| = |b_j| = √sigma_j."""
    factors = truncated_sum([random_factors(0, 6)], [1.0], 4).factors
    sigma = torch.linalg.svdvals(update(random_factors(0, 6)))[:4]
    torch.testing.assert_close(factors.a.norm(dim=1).double(), sigma.sqrt(), rtol=1e-5, atol=0.0)
    torch.testing.assert_close(factors.b.norm(dim=0).double(), sigma.sqrt(), rtol=1e-5, atol=0.0)


def test_signs_are_fixed() -> None:
    """The largest entry of each row of `a` is positive, whatever the sign of the input's rows."""
    f = random_factors(0, 6)
    flipped = Factors(-f.a, -f.b, f.scale)
    one, other = truncated_sum([f], [1.0], 4).factors, truncated_sum([flipped], [1.0], 4).factors
    torch.testing.assert_close(one.a, other.a)
    rows = torch.arange(4)
    assert (one.a[rows, one.a.abs().argmax(1)] > 0).all()


def test_zero_sum_is_zero_with_full_energy() -> None:
    """A sum that is zero or cancels gives zeros of the requested rank and reports full energy."""
    zero = Factors(torch.zeros(3, 5), torch.zeros(4, 3))
    factors, energy, _ = truncated_sum([zero, zero], [1.0, -1.0], 4)
    assert (4, 1.0) == (factors.rank, energy)
    assert not factors.a.any()
    assert not factors.b.any()


def test_rank_deficient_sum_is_finite() -> None:
    """The sum of copies of one MSU has one direction; the rest is zero, not noise or NaN."""
    f = random_factors(0, 1)
    factors, energy, _ = truncated_sum([f] * 5, [1.0] * 5, 5)
    assert energy == pytest.approx(1.0)
    np.testing.assert_allclose(update(factors), 5 * update(f), rtol=1e-5, atol=1e-5)


def test_huge_weights_do_not_fail_inside() -> None:
    """A weight beyond float32 overflows to infinity, which the caller refuses; nothing raises."""
    factors, energy, _ = truncated_sum([random_factors(0, 4)], [1e308], 2)
    sigma = torch.linalg.svdvals(update(random_factors(0, 4)))
    assert torch.isinf(factors.a).any()
    assert energy == pytest.approx(float((sigma[:2] ** 2).sum() / (sigma**2).sum()), rel=1e-6)


def correlated(seed: int, decay: float) -> list[Factors]:
    """Return five updates whose factors' columns grow more alike as `decay` falls below 1."""
    generator = torch.Generator().manual_seed(seed)
    updates = []
    for _ in range(5):
        a, b = torch.randn(8, 96, generator=generator), torch.randn(80, 8, generator=generator)
        turn = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
        updates.append(Factors(a, (b * decay ** torch.arange(8)) @ turn, 2.0))
    return updates


@pytest.mark.parametrize("decay", [1.0, 0.8, 0.5, 0.1])
@pytest.mark.parametrize("rank", [1, 8, 40])
def test_singular_values_are_exact_however_alike_factors_are(decay: float, rank: int) -> None:
    """Each singular value equals the dense sum's to a relative 1e-5, where float32 can represent
    it, also where Gram matrices in float32 or float64 would be too coarse.
    """
    updates, weights = correlated(3, decay), [1.0, -0.5, 0.3, 0.7, 0.2]
    dense = sum(w * update(f) for f, w in zip(updates, weights, strict=True))
    assert isinstance(dense, torch.Tensor)
    expected = torch.linalg.svdvals(dense)[:rank]
    actual = torch.linalg.svdvals(update(truncated_sum(updates, weights, rank).factors))[:rank]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-7 * float(expected[0]))


def test_a_small_difference_of_large_updates_is_exact() -> None:
    """f - g for updates that agree to six digits is exact to 1e-4; a float32 sum is not."""
    f = random_factors(0, 4, 60, 50)
    noise = random_factors(1, 4, 60, 50)
    g = Factors(f.a, f.b + 1e-6 * noise.b, f.scale)
    dense = update(f) - update(g)
    result = update(truncated_sum([f, g], [1.0, -1.0], 8).factors)
    assert float((result - dense).norm()) < 1e-4 * float(dense.norm())


@pytest.mark.parametrize("energy", [0.2, 0.6, 0.95, 0.999999, 1.0])
def test_energy_decides_the_smallest_rank(energy: float) -> None:
    """With `energy`, the result has the smallest rank that keeps this share, and reports it."""
    updates = correlated(1, 0.7)
    sigma = torch.linalg.svdvals(sum(map(update, updates), torch.zeros(80, 96)))
    shares = (sigma**2).cumsum(0) / (sigma**2).sum()
    expected = int((shares < energy - 1e-9).sum()) + 1
    factors, kept, _ = truncated_sum(updates, [1.0] * 5, 40, energy)
    assert min(expected, 40) == factors.rank
    assert kept == pytest.approx(float(shares[factors.rank - 1]), rel=1e-6)


def test_rank_caps_energy() -> None:
    """`rank` bounds the rank chosen by `energy`; a zero sum has rank 1 and keeps all its energy."""
    updates = correlated(1, 1.0)
    assert 3 == truncated_sum(updates, [1.0] * 5, 3, 0.999).factors.rank
    zero = Factors(torch.zeros(3, 5), torch.zeros(4, 3))
    factors, energy, _ = truncated_sum([zero], [1.0], 3, 0.5)
    assert (1, 1.0) == (factors.rank, energy)


@pytest.mark.parametrize("size", [1e-18, 1e-12, 1e12])
def test_sizes_of_factors_do_not_matter(size: float) -> None:
    """The result is exact although squares of entries leave float32's range."""
    f = random_factors(0, 4)
    sized = Factors(f.a * size, f.b / size, f.scale)
    expected = update(truncated_sum([f], [1.0], 3).factors)
    torch.testing.assert_close(update(truncated_sum([sized], [1.0], 3).factors), expected,
                               rtol=1e-4, atol=1e-5)  # fmt: skip


def test_mix_says_how_the_result_was_made() -> None:
    """A result's mix gives its factors as products with the members' factors."""
    updates = [random_factors(seed, 3, 40, 50) for seed in range(3)]
    merged = truncated_sum(updates, [1.0, -2.0, 0.5], 4)
    assert merged.mix is not None
    left, right, members = merged.mix
    a = left @ torch.cat([f.a for f in updates]).double()
    b = torch.cat([f.b for f in updates], dim=1).double() @ right
    assert updates == list(members)
    torch.testing.assert_close(merged.factors.a.double(), a, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged.factors.b.double(), b, rtol=1e-5, atol=1e-5)


def test_canonical_form_belongs_to_the_update() -> None:
    """Two factorisations of one update have the same canonical form: triplets, split evenly."""
    f = random_factors(0, 5)
    turn = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)) + 3 * torch.eye(5)
    other = Factors(turn @ f.a, f.b @ torch.linalg.inv(turn), f.scale)
    one, two = canonical(f), canonical(other)
    torch.testing.assert_close(two.a, one.a, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(two.b, one.b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(update(one), update(f), rtol=1e-5, atol=1e-5)
    assert (5, 1.0) == (one.rank, one.scale)
    gram_a, gram_b = one.a @ one.a.mT, one.b.mT @ one.b
    torch.testing.assert_close(gram_a, torch.diag(gram_a.diagonal()), rtol=0, atol=1e-4)
    torch.testing.assert_close(gram_b, gram_a, rtol=1e-4, atol=1e-4)


def test_canonical_form_keeps_the_rank() -> None:
    """The canonical form of a rank-deficient adapter keeps its number of MSUs; the rest is zero."""
    f = random_factors(0, 1)
    twice = canonical(Factors(torch.cat([f.a, f.a]), torch.cat([f.b, f.b], dim=1), f.scale))
    assert 2 == twice.rank
    torch.testing.assert_close(update(twice), 2 * update(f), rtol=1e-5, atol=1e-5)
