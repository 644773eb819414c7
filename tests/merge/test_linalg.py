"""Linear algebra on factors against dense numpy, and at degenerate inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.factors import Factors
from merge.linalg import frobenius_norm, gram, inner, truncated_sum
from tests.laws.laws import random_factors, update


def test_inner_product_is_the_dense_one() -> None:
    """⟨f, g⟩ by the trace formula equals the sum over the dense updates' entries."""
    f, g = random_factors(1, 4, scale=0.5), random_factors(2, 6, scale=-2.0)
    assert inner(f, g) == pytest.approx(float((update(f) * update(g)).sum()), rel=1e-10)


def test_gram_is_symmetric_and_dense_exact() -> None:
    """The Gram matrix holds all inner products."""
    updates = [random_factors(seed, 3) for seed in range(4)]
    flat = torch.stack([update(f).flatten() for f in updates])
    torch.testing.assert_close(gram(updates), flat @ flat.mT)


def test_norm_of_a_vanishing_update_is_zero() -> None:
    """Two MSUs that cancel have norm 0, not the root of a negative rounding error."""
    f = random_factors(0, 1)
    both = Factors(torch.cat([f.a, f.a]), torch.cat([f.b, -f.b], dim=1))
    assert frobenius_norm(both) == pytest.approx(0.0, abs=1e-6 * frobenius_norm(f))


def test_folding_and_balancing_keep_the_update() -> None:
    """Where the scale stands makes no difference to the update, negative scales included."""
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
    """For any ranks and shapes, also narrower than the rank: the best approximation, its energy,
    and exactly min(rank, R) MSUs.
    """
    updates = [random_factors(seed + i, r, d_in, d_out) for i, r in enumerate(ranks)]
    weights = [(-1.0) ** i / (i + 1) for i in range(len(ranks))]
    factors, energy = truncated_sum(updates, weights, rank)
    dense = sum(w * update(f) for f, w in zip(updates, weights, strict=True))
    assert isinstance(dense, torch.Tensor)
    sigma = torch.linalg.svdvals(dense)
    lost = float((update(factors) - dense).square().sum())
    assert min(rank, sum(ranks)) == factors.rank
    assert lost == pytest.approx(
        float(sigma[rank:].square().sum()), rel=1e-3, abs=1e-8 * float(sigma.square().sum())
    )
    kept = float(sigma[:rank].square().sum() / sigma.square().sum())
    assert energy == pytest.approx(kept, rel=1e-9)


def test_singular_values_are_split_evenly() -> None:
    """Each MSU has half of its singular value on each side: |a_j| = |b_j| = √sigma_j."""
    factors, _ = truncated_sum([random_factors(0, 6)], [1.0], 4)
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
    """A sum that cancels or is zero gives zeros, of the asked rank, and loses nothing."""
    zero = Factors(torch.zeros(3, 5), torch.zeros(4, 3))
    factors, energy = truncated_sum([zero, zero], [1.0, -1.0], 4)
    assert (4, 1.0) == (factors.rank, energy)
    assert not factors.a.any()
    assert not factors.b.any()


def test_rank_deficient_sum_is_finite() -> None:
    """Copies of one MSU leave one direction; the rest is zero, not noise or NaN."""
    f = random_factors(0, 1)
    factors, energy = truncated_sum([f] * 5, [1.0] * 5, 5)
    assert energy == pytest.approx(1.0)
    np.testing.assert_allclose(update(factors), 5 * update(f), rtol=1e-5, atol=1e-5)


def test_huge_weights_do_not_fail_inside() -> None:
    """A weight beyond float32 overflows to infinity, which the caller refuses; nothing raises."""
    factors, energy = truncated_sum([random_factors(0, 4)], [1e308], 2)
    sigma = torch.linalg.svdvals(update(random_factors(0, 4)))
    assert torch.isinf(factors.a).any()
    assert energy == pytest.approx(float((sigma[:2] ** 2).sum() / (sigma**2).sum()))
