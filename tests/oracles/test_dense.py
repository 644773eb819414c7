"""The three methods against the dense float64 oracle."""

import numpy as np
import pytest
import torch

from merge.factors import Factors, Stack
from merge.kmeans import Clustering, kmeans_of_each
from merge.methods import lego as lego_module
from merge.methods.cat import cat
from merge.methods.lego import lego
from merge.methods.linear import linear
from tests.laws.laws import random_factors
from tests.oracles import dense

WEIGHTS = [1.0, -0.5, 0.3]


def some_members(seed: int = 0) -> list[Factors]:
    """Return three adapters of mixed ranks and scales."""
    return [
        random_factors(seed + i, rank, 40, 30, scale)
        for i, (rank, scale) in enumerate([(8, 2.0), (4, 0.5), (6, 1.0)])
    ]


def test_cat_is_the_dense_sum() -> None:
    """`cat` equals Σ w ΔW to float32 rounding."""
    members = some_members()
    merged = cat(Stack("m", tuple(members), tuple(WEIGHTS)))
    np.testing.assert_allclose(dense.dense(merged.factors), dense.cat(members, WEIGHTS), atol=1e-4)


@pytest.mark.parametrize("rank", [1, 5, 12, 18])
def test_linear_is_the_dense_svd(rank: int) -> None:
    """`linear` equals the truncated SVD of the dense sum, and reports the energy that it keeps."""
    members = some_members()
    merged = linear(Stack("m", tuple(members), tuple(WEIGHTS)), rank=rank)
    expected, energy = dense.linear(members, WEIGHTS, rank)
    np.testing.assert_allclose(dense.dense(merged.factors), expected, atol=1e-4)
    assert merged.energy == pytest.approx(energy, rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_lego_from_the_same_centres(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same initial centres, scikit-learn finds the same clusters, and the formulas give
    the same factors.
    """
    members, k = some_members(seed * 10), 6
    z, sample_weight = dense.lego_units(members, WEIGHTS)
    starts = np.argsort(-(z**2).sum(1))[:k]
    oracle = dense.lego_clusters(z, sample_weight, z[starts])
    found: list[Clustering] = []

    def from_longest(
        grams: torch.Tensor,
        weights: torch.Tensor,
        k: int,
        *,
        n_init: int,
        generators: list[torch.Generator],
    ) -> list[Clustering]:
        longest = grams[0].diagonal().argsort(descending=True)[:k]
        found.extend(
            kmeans_of_each(grams, weights, k, generators=generators, initial_centers=longest)
        )
        return found

    monkeypatch.setattr(lego_module, "kmeans_of_each", from_longest)
    merged = lego(Stack("m", tuple(members), tuple(WEIGHTS)), rank=k)
    expected_a, expected_b = dense.lego(z, sample_weight, oracle.labels_, 40, reference_rank=6.0)
    # Both number their clusters by the starting points, longest first.
    np.testing.assert_allclose(merged.factors.a.numpy(), expected_a, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(merged.factors.b.numpy(), expected_b, rtol=1e-5, atol=1e-5)
    assert found[0].inertia == pytest.approx(oracle.inertia_, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"reference_rank": 24.0}, np.sqrt(24.0 / 6.0)),
        ({"output_reweighting": False}, np.sqrt(6.0 / 6.0)),
    ],
)
def test_output_reweighting_is_a_factor_of_b(options: dict[str, float], factor: float) -> None:
    """√(reference rank / k) multiplies b; the default reference is the mean rank, here k itself."""
    stack = Stack("m", tuple(some_members()), tuple(WEIGHTS))
    default = lego(stack, rank=6).factors
    changed = lego(stack, rank=6, **options).factors  # type: ignore[arg-type]  # a table
    assert torch.equal(default.a, changed.a)
    torch.testing.assert_close(changed.b, default.b * factor)


def test_without_parameter_reweighting_rows_are_means() -> None:
    """With k = 1 and both reweightings off, LEGO is the weighted mean of all MSUs."""
    members = some_members()
    stack = Stack("m", tuple(members), tuple(WEIGHTS))
    merged = lego(stack, rank=1, parameter_reweighting=False, output_reweighting=False).factors
    z, sample_weight = dense.lego_units(members, WEIGHTS)
    mean = (sample_weight[:, None] * z).sum(0) / sample_weight.sum()
    np.testing.assert_allclose(np.concatenate([merged.a[0], merged.b[:, 0]]), mean, atol=1e-6)
