"""Weighted k-means that sees its points only through their Gram matrix.

Squared distances between points and centroids (which are weighted means of points) are linear in
inner products, so n points in any number of dimensions cost no more than an (n, n) matrix, and the
clusters are those of k-means on the vectors. All restarts run together as one batch.

Algorithm: greedy k-means++ seeding with 2 + ⌊ln k⌋ candidates a step (Arthur and Vassilvitskii
2007, §5 "greedy"; the variant scikit-learn uses), then Lloyd's iterations until no label changes.
There is no movement tolerance: in thousands of dimensions the customary one, relative to the
variance per dimension, stops at the same step.

Not covered: many points. Memory is O(n_init · n · k), time per step O(n_init · n² k).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ITERATIONS = 300
# Distances are differences of inner products: what is below this share of the largest is noise, on
# which coinciding points would change places for ever.
_ROUNDING = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """The best of all restarts: every one of the k clusters has a point."""

    labels: Tensor  # (n,) int64 in [0, k)
    inertia: float  # Σ weight · squared distance to the own centroid


def kmeans(
    gram: Tensor,
    weight: Tensor,
    k: int,
    *,
    generator: torch.Generator,
    n_init: int = 10,
    initial_centers: Tensor | None = None,
) -> Clustering:
    """Cluster n points into exactly k non-empty clusters.

    An empty cluster takes over the point that lies farthest from its centroid among clusters that
    can spare one, so coinciding points never leave a cluster empty. Ties go to the lowest index;
    equal restarts to the first.

    Args:
        gram: (n, n) float64, inner products of the points.
        weight: (n,) float64, positive sample weights; only their ratios matter.
        k: 1 ≤ k ≤ n.
        generator: draws the seedings; nothing else is random.
        n_init: restarts, at least 1.
        initial_centers: (k,) indices of points to start from instead, once, without drawing.
    """
    n = len(gram)
    if k == n:  # a point each: no partition is better
        return Clustering(torch.arange(n), 0.0)
    norms = gram.diagonal()  # (n,)
    distances = (norms[:, None] + norms - 2 * gram).clamp_(min=0.0)  # (n, n) squared
    if initial_centers is None:
        centers = _seed(distances, weight, k, n_init, generator)  # (n_init, k)
    else:
        centers = initial_centers[None]
    labels = distances[:, centers].permute(1, 0, 2).argmin(2)  # (n_init, n)
    for _ in range(MAX_ITERATIONS):
        to_centroids = _repaired(gram, weight, labels, k)
        new = _nearest(to_centroids, labels, slack=_ROUNDING * float(norms.max()))
        if torch.equal(new, labels):
            break
        labels = new
    inertia = _own(_repaired(gram, weight, labels, k), labels).clamp_(min=0.0) @ weight
    best = int(inertia.argmin())  # of (n_init,)
    return Clustering(labels[best], float(inertia[best]))


def _seed(
    distances: Tensor, weight: Tensor, k: int, n_init: int, generator: torch.Generator
) -> Tensor:
    """Greedy k-means++: return (n_init, k) indices of points."""
    candidates = 2 + int(math.log(k))
    draws = torch.rand(n_init, k, candidates, dtype=torch.float64, generator=generator)
    first = _draw(weight.expand(n_init, -1), draws[:, 0, :1])[:, 0]  # (n_init,)
    centers = [first]
    nearest = distances[first]  # (n_init, n) squared distance to the nearest center so far
    rows = torch.arange(n_init)
    for step in range(1, k):
        drawn = _draw(nearest * weight, draws[:, step])  # (n_init, candidates)
        reached = torch.minimum(nearest[:, None], distances[drawn])  # (n_init, candidates, n)
        chosen = (reached @ weight).argmin(1)  # (n_init,)
        centers.append(drawn[rows, chosen])
        nearest = reached[rows, chosen]
    return torch.stack(centers, dim=1)


def _draw(mass: Tensor, uniform: Tensor) -> Tensor:
    """Return (n_init, m) indices drawn in proportion to `mass` (n_init, n), by inversion."""
    cumulative = mass.cumsum(1)
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return drawn.clamp_(max=mass.shape[1] - 1)


def _to_centroids(gram: Tensor, weight: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return squared distances of points to centroids, (n_init, n, k); infinite to empty ones."""
    member = torch.nn.functional.one_hot(labels, k).to(gram.dtype)  # (n_init, n, k)
    share = member * weight[:, None]
    mass = share.sum(1, keepdim=True)  # (n_init, 1, k)
    share = share / mass.clamp(min=torch.finfo(gram.dtype).tiny)
    cross = gram @ share  # (n_init, n, k) ⟨point, centroid⟩
    norms = (share * cross).sum(1, keepdim=True)  # (n_init, 1, k) |centroid|²
    distances = gram.diagonal()[:, None] - 2 * cross + norms
    return distances.masked_fill(mass == 0.0, math.inf)


def _own(to_centroids: Tensor, labels: Tensor) -> Tensor:
    """Return each point's squared distance to its own centroid, (n_init, n)."""
    return to_centroids.gather(2, labels[:, :, None])[:, :, 0]


def _nearest(to_centroids: Tensor, labels: Tensor, *, slack: float) -> Tensor:
    """Return new labels (n_init, n); a point moves only where that gains more than rounding."""
    least, nearest = to_centroids.min(2)
    return torch.where(_own(to_centroids, labels) - least > slack, nearest, labels)


def _repaired(gram: Tensor, weight: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return `_to_centroids` after giving every empty cluster a point, in place in `labels`."""
    to_centroids = _to_centroids(gram, weight, labels, k)
    empty = to_centroids[:, 0].isinf().nonzero().tolist()  # pairs (restart, cluster)
    if not empty:
        return to_centroids
    own = _own(to_centroids, labels)
    for restart, cluster in empty:
        counts = torch.bincount(labels[restart], minlength=k)
        spare = own[restart].masked_fill(counts[labels[restart]] < 2, -math.inf)
        farthest = int(spare.argmax())
        labels[restart, farthest] = cluster
        own[restart, farthest] = 0.0
    return _to_centroids(gram, weight, labels, k)
