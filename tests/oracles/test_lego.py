"""LoRA-LEGO's options against its paper and plain algebra."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from merge.factors import Factors, Stack
from merge.linalg import canonical
from merge.methods.lego import lego
from tests.laws.laws import random_factors, update

RANK = 6


def stack(*members: Factors, weights: tuple[float, ...] | None = None) -> Stack:
    """Return members at weight 1 unless others are given."""
    return Stack("model.m", members, weights or (1.0,) * len(members))


def three() -> list[Factors]:
    """Return three adapters of mixed ranks and scales."""
    return [
        random_factors(seed, rank, 40, 30, scale)
        for seed, (rank, scale) in enumerate([(8, 2.0), (4, 0.5), (6, 1.0)])
    ]


def regauged(f: Factors, seed: int) -> Factors:
    """Return the same update in another factorisation, far from orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.eye(f.rank) + 0.3 * torch.randn(f.rank, f.rank, generator=generator)
    return Factors(g @ f.a, f.b @ torch.linalg.inv(g), f.scale)


def norms(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Return Euclidean norms along `dim`."""
    return x.square().sum(dim).sqrt()


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_one_adapter_at_a_lower_rank_is_pruned(rank: int) -> None:
    """With one adapter and k < r, the result is the paper's pruning: its own MSUs in k clusters,
    centroids rescaled to their members' size, and √(r/k) on b.
    """
    f = random_factors(1, RANK, 50, 40, scale=1.0)
    merged = lego(stack(f), rank=rank).factors
    z = np.concatenate([f.a.numpy(), f.b.numpy().T], axis=1).astype(np.float64)
    found = KMeans(rank, n_init=50, random_state=0).fit(z)
    expected = []
    for c in range(rank):
        of_c = z[found.labels_ == c]
        centroid = of_c.mean(0)
        expected.append(centroid * np.abs(of_c).max(1).mean() / np.abs(centroid).max())
    mu = np.array(expected)
    dense = math.sqrt(RANK / rank) * mu[:, 50:].T @ mu[:, :50]
    assert rank == merged.rank
    np.testing.assert_allclose(update(merged).numpy(), dense, rtol=1e-4, atol=1e-4)


def test_pruning_to_the_own_rank_changes_nothing() -> None:
    """With one adapter and k = r the result is the adapter."""
    f = random_factors(1, RANK, 50, 40)
    torch.testing.assert_close(update(lego(stack(f), rank=RANK).factors), update(f),
                               rtol=1e-5, atol=1e-4)  # fmt: skip


def test_canonical_clusters_do_not_depend_on_the_factorisation() -> None:
    """With `canonical`, (a, b) → (G a, b G⁻¹) changes nothing; without it, it does."""
    members = three()
    others = [regauged(f, seed) for seed, f in enumerate(members)]
    for f, other in zip(members, others, strict=True):
        torch.testing.assert_close(update(other), update(f), rtol=1e-4, atol=1e-3)
    plain, changed = (update(lego(stack(*group), rank=RANK).factors) for group in (members, others))
    assert float((plain - changed).norm()) > 0.1 * float(plain.norm())
    one, two = (
        update(lego(stack(*group), rank=RANK, canonical=True).factors)
        for group in (members, others)
    )
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_canonical_is_lego_of_canonical_adapters() -> None:
    """`canonical` equals plain LEGO on adapters rewritten as their singular triplets."""
    members = three()
    expected = lego(stack(*map(canonical, members)), rank=RANK).factors
    actual = lego(stack(*members), rank=RANK, canonical=True).factors
    assert torch.equal(expected.a, actual.a)
    assert torch.equal(expected.b, actual.b)


def test_balance_is_lego_of_balanced_units() -> None:
    """`balance` equals plain LEGO on MSUs with |a_j| = |b_j| and unchanged updates."""
    members = three()
    by_hand = []
    for f in members:
        ratio = (norms(f.b, 0) / norms(f.a, 1)).sqrt()
        by_hand.append(Factors(f.a * ratio[:, None], f.b / ratio, f.scale))
        torch.testing.assert_close(norms(by_hand[-1].a, 1), norms(by_hand[-1].b, 0))
    expected = update(lego(stack(*by_hand), rank=RANK).factors)
    actual = update(lego(stack(*members), rank=RANK, balance=True).factors)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_balance_lets_the_small_half_count() -> None:
    """Where large rows of `a` are uninformative and small columns of `b` form two groups, clusters
    follow `b` with `balance` and miss the groups without it.
    """
    generator = torch.Generator().manual_seed(0)
    groups = torch.linalg.qr(torch.randn(48, 2, generator=generator))[0]
    members = [
        Factors(30 * torch.randn(8, 64, generator=generator), 0.1 * groups[:, torch.arange(8) % 2])
        for _ in range(4)
    ]
    purity = []
    for balance in (False, True):
        b = lego(stack(*members), rank=2, balance=balance).factors.b
        cosines = (groups.mT @ (b / norms(b, 0))).abs()
        purity.append(float(cosines.max(0).values.min()))
    assert purity[1] == pytest.approx(1.0, abs=1e-5)
    assert purity[0] < 0.95


@pytest.mark.parametrize("canonical_first", [False, True])
def test_units_without_an_update_are_harmless(canonical_first: bool) -> None:
    """MSUs whose b is zero, as in an untrained adapter, cause no NaN under any option."""
    fresh = Factors(torch.ones(3, 24), torch.zeros(18, 3), 2.0)
    members = (fresh, random_factors(0, 3))
    result = lego(stack(*members), rank=2, canonical=canonical_first, balance=True).factors
    assert torch.isfinite(update(result)).all()
    alone = lego(stack(fresh), rank=2, canonical=canonical_first, balance=True).factors
    assert not update(alone).any()


def test_every_switch_multiplies_as_it_says() -> None:
    """Without both reweightings the result is the plain centroids; each adds its own factor."""
    given = stack(*three(), weights=(1.0, -0.5, 0.3))
    off = lego(given, rank=RANK, parameter_reweighting=False, output_reweighting=False).factors
    output = lego(given, rank=RANK, parameter_reweighting=False, reference_rank=24.0).factors
    torch.testing.assert_close(output.b, off.b * 2.0)
    both = lego(given, rank=RANK).factors
    factor = both.a.norm(dim=1) / off.a.norm(dim=1)  # of each centroid
    assert (factor >= 1.0 - 1e-5).all()  # a mean is never longer than what it averages
    torch.testing.assert_close(both.a, off.a * factor[:, None])
    torch.testing.assert_close(both.b, off.b * factor * math.sqrt(18 / 3 / RANK))
