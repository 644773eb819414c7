"""k-means in Gram space against scikit-learn's on the vectors."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from merge.kmeans import kmeans

CASES = [(seed, k) for seed in range(50) for k in (4, 16)]


def points(seed: int, n: int = 64, d: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points (n, d) loosely around a dozen centres, and weights (n,), float64."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    centres = torch.randn(12, d, **options)  # type: ignore[call-overload]  # keywords in a table
    x = centres[torch.randint(0, 12, (n,), generator=generator)]
    x = x + 1.5 * torch.randn(n, d, **options)  # type: ignore[call-overload]  # as above
    return x, torch.rand(n, generator=generator, dtype=torch.float64) + 0.2


def test_mean_inertia_is_scikit_learns() -> None:
    """With free starts (n_init = 10), the mean inertia over modules and seeds agrees to 0.1 %."""
    ratios = []
    for seed, k in CASES:
        x, weight = points(seed)
        ours = kmeans(x @ x.mT, weight, k, generator=torch.Generator().manual_seed(seed))
        with threadpool_limits(1):  # scikit-learn's threads spin while they wait
            theirs = KMeans(k, n_init=10, random_state=seed).fit(
                x.numpy(), sample_weight=weight.numpy()
            )
        ratios.append(ours.inertia / theirs.inertia_)
    assert abs(np.mean(ratios) - 1.0) < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_same_starts_same_clusters(seed: int) -> None:
    """From the same starting points, labels and inertia are scikit-learn's."""
    x, weight = points(seed)
    start = torch.arange(8) * 7
    ours = kmeans(
        x @ x.mT, weight, 8, generator=torch.Generator().manual_seed(0), initial_centers=start
    )
    theirs = KMeans(8, init=x[start].numpy(), n_init=1, tol=0.0, algorithm="lloyd").fit(
        x.numpy(), sample_weight=weight.numpy()
    )
    assert theirs.labels_.tolist() == ours.labels.tolist()
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-9)
