"""k-means in Gram space at edge cases; `oracles` compares its quality with scikit-learn's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merge.kmeans import Clustering, kmeans, kmeans_of_each


def cluster(x: Tensor, k: int, *, weight: Tensor | None = None, seed: int = 0) -> Clustering:
    """Cluster points (n, d) with weight 1 unless given."""
    weight = torch.ones(len(x), dtype=torch.float64) if weight is None else weight
    return kmeans(x @ x.mT, weight, k, generator=torch.Generator().manual_seed(seed))


def random_points(n: int, d: int, seed: int = 0) -> Tensor:
    """Return (n, d) float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, dtype=torch.float64, generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 20),
    distinct=st.integers(1, 20),
    data=st.data(),
    seed=st.integers(0, 10**6),
)
def test_every_cluster_has_a_point(n: int, distinct: int, data: st.DataObject, seed: int) -> None:
    """Exactly k clusters are used, also where there are fewer than k distinct points."""
    k = data.draw(st.integers(1, n))
    x = random_points(n, 3, seed)[torch.arange(n) % distinct]
    assert k == len(set(cluster(x, k, seed=seed).labels.tolist()))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 16), st.integers(1, 16), st.integers(1, 5)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    data=st.data(),
    seed=st.integers(0, 10**6),
)
def test_a_set_clusters_alike_alone_and_among_others(
    sizes: tuple[int, int, int], dtype: torch.dtype, data: st.DataObject, seed: int
) -> None:
    """Labels and inertia of a set are the same alone and in a batch, with copies and zeros too."""
    n, distinct, count = sizes
    k = data.draw(st.integers(1, n))
    x = torch.stack([random_points(n, 4, seed + i) for i in range(count)])
    x[::2] = x[::2, torch.arange(n) % distinct]  # every other set has copies
    x[-1, n // 2 :] = 0.0
    grams = (x @ x.mT).to(dtype)
    weights = torch.rand(count, n, dtype=torch.float64) + 0.1
    generators = [[torch.Generator().manual_seed(seed + i) for i in range(count)] for _ in range(2)]
    batch = kmeans_of_each(grams, weights, k, generators=generators[0], n_init=3)
    assert count == len(batch)
    for of_set, *alone in zip(batch, grams, weights, generators[1], strict=True):
        gram, weight, generator = alone
        single = kmeans(gram, weight, k, generator=generator, n_init=3)
        assert single.labels.tolist() == of_set.labels.tolist()
        assert single.inertia == pytest.approx(of_set.inertia, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("copies", "spread", "seed"),
    [(3, 0.1, 40), (3, 0.1, 42), (2, 0.0, 74), (2, 0.5, 129)],  # of restarts, of candidates
)
def test_rounding_does_not_choose_among_equals(copies: int, spread: float, seed: int) -> None:
    """Labels stay the same where inner products differ in the last place, as between machines."""
    n = 12 * copies
    x = random_points(12, 10, seed).repeat(copies, 1) + spread * random_points(n, 10, seed + 100)
    gram = x @ x.mT
    noise = random_points(n, n, seed)
    other = gram * (1 + 1e-16 * (noise + noise.mT))
    plain, noisy = (
        kmeans(g, torch.ones(n).double(), 8, generator=torch.Generator().manual_seed(seed))
        for g in (gram, other)
    )
    assert torch.equal(plain.labels, noisy.labels)


def test_inertia_is_that_of_the_labels() -> None:
    """The inertia equals Σ weight · squared distance to the weighted mean, computed on vectors."""
    x, weight = random_points(30, 8), torch.rand(30, dtype=torch.float64) + 0.1
    found = cluster(x, 5, weight=weight)
    total = 0.0
    for c in range(5):
        of_c, w = x[found.labels == c], weight[found.labels == c]
        mean = (w[:, None] * of_c).sum(0) / w.sum()
        total += float((w * (of_c - mean).square().sum(1)).sum())
    assert found.inertia == pytest.approx(total, rel=1e-9)


def test_separate_groups_are_found() -> None:
    """Points around distant centres are grouped by centre."""
    centres = 100 * random_points(4, 6, seed=1)
    x = centres.repeat_interleave(5, dim=0) + random_points(20, 6, seed=2)
    labels = cluster(x, 4).labels.view(4, 5)
    assert (labels == labels[:, :1]).all()
    assert 4 == len(set(labels[:, 0].tolist()))


def test_copies_fall_together() -> None:
    """Copies of k distinct points make k clusters with inertia 0."""
    x = random_points(6, 10).repeat(4, 1)
    found = cluster(x, 6)
    assert (found.labels.view(4, 6) == found.labels[:6]).all()
    assert found.inertia == pytest.approx(0.0, abs=1e-9)


def test_as_many_clusters_as_points() -> None:
    """With k = n, each cluster has one point."""
    found = cluster(random_points(7, 2), 7)
    assert (list(range(7)), 0.0) == (found.labels.tolist(), found.inertia)


def test_weights_count_like_copies() -> None:
    """A point of weight 3 pulls its centroid like three points."""
    x = random_points(8, 4)
    weight = torch.tensor([3.0] + [1.0] * 7, dtype=torch.float64)
    heavy = cluster(x, 1, weight=weight)
    copied = cluster(torch.cat([x[:1], x[:1], x]), 1)
    assert heavy.inertia == pytest.approx(copied.inertia, rel=1e-9)


def test_only_ratios_of_weights_matter() -> None:
    """Multiplying all weights by a constant does not change the clusters."""
    x, weight = random_points(25, 4), torch.rand(25, dtype=torch.float64) + 0.1
    labels = [cluster(x, 5, weight=weight * factor).labels for factor in (1.0, 1e-9, 1e9)]
    assert torch.equal(labels[0], labels[1])
    assert torch.equal(labels[0], labels[2])


def test_same_seed_same_labels() -> None:
    """The same seed gives the same labels: the generator is the only source of randomness."""
    x = random_points(40, 4)
    assert torch.equal(cluster(x, 8, seed=3).labels, cluster(x, 8, seed=3).labels)


def test_the_labels_of_known_points_stay_what_they_are() -> None:
    """These labels change only with the revision of the methods that use them: a recipe's digest
    stands for one result.
    """
    x = torch.arange(160.0, dtype=torch.float64).square().sin().view(40, 4)
    weight = torch.linspace(0.5, 2.0, 40, dtype=torch.float64)
    drawn = kmeans(x @ x.mT, weight, 6, n_init=2, generator=torch.Generator().manual_seed(0))
    placed = kmeans(
        x @ x.mT, weight, 6, generator=torch.Generator(), initial_centers=torch.arange(6)
    )
    assert "0014555401500330255224420521340150031343" == "".join(map(str, drawn.labels.tolist()))
    assert "0123454302404001540253321421331240530013" == "".join(map(str, placed.labels.tolist()))
    assert (drawn.inertia, placed.inertia) == pytest.approx((36.6300253959, 44.4078694275))


def test_more_restarts_are_never_worse() -> None:
    """The best restart is returned: inertia with 20 restarts is at most the mean with 1."""
    x = random_points(40, 4)
    weight = torch.ones(40, dtype=torch.float64)
    gram = x @ x.mT
    single = [
        kmeans(gram, weight, 8, n_init=1, generator=torch.Generator().manual_seed(s)).inertia
        for s in range(20)
    ]
    many = kmeans(gram, weight, 8, n_init=20, generator=torch.Generator().manual_seed(99))
    assert many.inertia <= sum(single) / 20


def test_a_coarse_gram_matrix_gives_its_own_clusters() -> None:
    """Clusters from float32 inner products are as good as those from exact ones."""
    for seed in range(10):
        x = random_points(40, 200, seed).float()
        weight = torch.ones(40, dtype=torch.float64)
        exact, coarse = (
            kmeans(gram, weight, 6, generator=torch.Generator().manual_seed(seed)).inertia
            for gram in (x.double() @ x.double().mT, x @ x.mT)
        )
        assert coarse == pytest.approx(exact, rel=1e-2)


def test_rounding_does_not_separate_copies() -> None:
    """Copies share a cluster although their float32 inner products differ in the last place."""
    x = random_points(6, 300).float().repeat(4, 1)
    noisy = x @ x.mT
    noisy = noisy * (1 + 1e-7 * torch.randn(24, 24, generator=torch.Generator().manual_seed(0)))
    weight = torch.ones(24, dtype=torch.float64)
    labels = kmeans((noisy + noisy.mT) / 2, weight, 6, generator=torch.Generator()).labels
    assert (labels.view(4, 6) == labels[:6]).all()
