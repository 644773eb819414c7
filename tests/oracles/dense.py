"""Each merge method in a few float64 lines on dense updates, written from its paper.

The code uses only numpy and scikit-learn, and favours readability over speed.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from merge.factors import Factors

Array = NDArray[np.float64]


def dense(f: Factors) -> Array:
    """Return the update, (d_out, d_in)."""
    return np.asarray(f.scale * f.b.double().numpy() @ f.a.double().numpy())


def cat(members: list[Factors], weights: list[float]) -> Array:
    """Return Σ w ΔW."""
    return np.asarray(sum(w * dense(f) for f, w in zip(members, weights, strict=True)))


def linear(members: list[Factors], weights: list[float], rank: int) -> tuple[Array, float]:
    """Return the best rank-k approximation of Σ w ΔW, and the share of its energy kept."""
    u, s, v = np.linalg.svd(cat(members, weights), full_matrices=False)
    kept = (u[:, :rank] * s[:rank]) @ v[:rank]
    return kept, float((s[:rank] ** 2).sum() / (s**2).sum())


def lego_units(members: list[Factors], weights: list[float]) -> tuple[Array, Array]:
    """Return MSUs z = [√s a_j, √s b_j], (n, d_in + d_out), and their sample weights |w|, (n,)."""
    z, sample_weight = [], []
    for f, w in zip(members, weights, strict=True):
        a, b = f.a.double().numpy(), f.b.double().numpy() * np.sign(w)
        for j in range(f.rank):
            z.append(np.sqrt(f.scale) * np.concatenate([a[j], b[:, j]]))
            sample_weight.append(abs(w))
    return np.array(z), np.array(sample_weight)


def lego_clusters(z: Array, sample_weight: Array, starts: Array) -> KMeans:
    """Run scikit-learn's Lloyd iterations from the given centres, (k, d_in + d_out)."""
    model = KMeans(len(starts), init=starts, n_init=1, tol=0.0, algorithm="lloyd", max_iter=300)
    return model.fit(z, sample_weight=sample_weight)


def lego(
    z: Array, sample_weight: Array, labels: NDArray[np.int64], d_in: int, reference_rank: float
) -> tuple[Array, Array]:
    """Return the clusters' reweighted centroids as factors a (k, d_in) and b (d_out, k)."""
    k = labels.max() + 1
    rows = []
    for c in range(k):
        of_c, w = z[labels == c], sample_weight[labels == c]
        centroid = (w[:, None] * of_c).sum(0) / w.sum()
        wanted = (w * np.abs(of_c).max(1)).sum() / w.sum()
        rows.append(centroid * wanted / np.abs(centroid).max())
    mu = np.array(rows)
    return mu[:, :d_in], mu[:, d_in:].T * np.sqrt(reference_rank / k)
