"""Weighted k-means on points given by their Gram matrix.

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
# Squared distances are differences of inner products, so their error is some units in the last
# place of the largest inner product, however small they are. A move that gains less than this many
# units is noise: without the bound, coinciding points swap clusters until MAX_ITERATIONS.
_NOISE_UNITS = 64


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

    An empty cluster takes the point farthest from its centroid out of a cluster that has at least
    two, so coinciding points never leave a cluster empty. Ties go to the lowest index; of equal
    restarts the first wins.

    Args:
        gram: (n, n) inner products of the points. Its dtype, float64 or float32, says how exact
            they are: a point moves only if it gains more than their rounding.
        weight: (n,) float64, positive sample weights; only their ratios matter.
        k: 1 ≤ k ≤ n.
        generator: draws the seedings; nothing else is random.
        n_init: restarts, at least 1.
        initial_centers: (k,) indices of points to start from instead, once, without drawing.
    """
    n = len(gram)
    if k == n:  # a point each: no partition is better
        return Clustering(torch.arange(n), 0.0)
    # The rounding is the input's, so it is read off before the arithmetic goes on in float64.
    noise = _NOISE_UNITS * torch.finfo(gram.dtype).eps
    points = _Points(gram.double(), weight, noise * float(gram.diagonal().max()))
    if initial_centers is None:
        centers = _seed(points.distances(), weight, k, n_init, generator)  # (n_init, k)
    else:
        centers = initial_centers[None]
    labels = _lloyd(points, points.distances()[:, centers].argmin(2), k)
    inertia = points.inertia(labels, k)
    best = int(inertia.argmin())  # of (n_init,)
    return Clustering(labels[:, best], float(inertia[best]))


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """The points, as inner products and weights."""

    gram: Tensor  # (n, n) float64
    weight: Tensor  # (n,) float64
    noise: float  # squared distances below this are rounding

    def distances(self) -> Tensor:
        """Return squared distances between points, (n, n)."""
        norms = self.gram.diagonal()
        # Rounding makes distances of coinciding points negative; as a mass to draw from (`_draw`)
        # they would make the cumulative sums fall.
        return (norms[:, None] + norms - 2 * self.gram).clamp_(min=0.0)

    def to_centroids(self, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return squared distances to centroids less the point's own square, and masses.

        Args:
            labels: (n, n_init).
            k: the number of clusters.

        Returns:
            (n, n_init, k), infinite to empty clusters, and (n_init, k) sums of weights.
        """
        share = torch.zeros(*labels.shape, k, dtype=torch.float64)
        share.scatter_(2, labels[:, :, None], self.weight[:, None, None].expand(*labels.shape, 1))
        mass = share.sum(0)
        # An empty cluster has no mean: dividing by tiny instead of 0 keeps NaN out of the product,
        # and the infinite square below keeps every point away from it.
        share /= mass.clamp(min=torch.finfo(torch.float64).tiny)
        # One product for all restarts: (n, n) @ (n, n_init k) runs at matrix-product speed.
        cross = (self.gram @ share.flatten(1)).view_as(share)  # ⟨point, centroid⟩
        squares = torch.einsum("nik,nik->ik", share, cross)  # |centroid|²
        squares.masked_fill_(mass == 0.0, math.inf)
        return cross.mul_(-2.0).add_(squares), mass

    def inertia(self, labels: Tensor, k: int) -> Tensor:
        """Return Σ weight · squared distance to the own centroid of each restart, (n_init,)."""
        own = _own(self.to_centroids(labels, k)[0], labels) + self.gram.diagonal()[:, None]
        return self.weight @ own.clamp_(min=0.0)


def _seed(
    distances: Tensor, weight: Tensor, k: int, n_init: int, generator: torch.Generator
) -> Tensor:
    """Return (n_init, k) indices of points, by greedy k-means++.

    Of a few candidates drawn in proportion to weight · squared distance, each step takes the one
    that leaves the least inertia (Arthur and Vassilvitskii 2007, §5).
    """
    candidates = 2 + int(math.log(k))
    # All draws at once, so that their number does not depend on what the earlier ones chose.
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
    """Return (n_init, m) indices drawn in proportion to `mass` (n_init, n), by inversion.

    `torch.multinomial` is not used: its algorithm, and so the draw of a seed, may change between
    releases of torch.
    """
    cumulative = mass.cumsum(1)
    # right=True never returns a point of mass 0 ahead of one with mass; where all mass is 0 (every
    # point is a center already) it runs past the end, which the clamp turns into the last point.
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return drawn.clamp_(max=mass.shape[1] - 1)


def _lloyd(points: _Points, labels: Tensor, k: int) -> Tensor:
    """Return labels (n, n_init) that no further step changes; every cluster has a point.

    Lloyd's iteration on all restarts at once. One that has converged is stepped along unchanged.
    """
    for _ in range(MAX_ITERATIONS):
        to_centroids, labels = _repaired(points, labels, k)
        least, nearest = to_centroids.min(2)
        # A point stays unless another centroid is nearer by more than rounding: this ends ties.
        moves = _own(to_centroids, labels) - least > points.noise
        if not moves.any():
            break
        labels = torch.where(moves, nearest, labels)
    return _repaired(points, labels, k)[1]


def _own(to_centroids: Tensor, labels: Tensor) -> Tensor:
    """Return the entries of `to_centroids` at each point's own cluster, (n, n_init)."""
    return to_centroids.gather(2, labels[:, :, None])[:, :, 0]


def _repaired(points: _Points, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return distances to centroids and labels, after giving every empty cluster a point."""
    to_centroids, mass = points.to_centroids(labels, k)
    if mass.all():
        return to_centroids, labels
    labels = labels.clone()
    own = _own(to_centroids, labels) + points.gram.diagonal()[:, None]
    for restart, cluster in (mass == 0.0).nonzero().tolist():
        of_restart = labels[:, restart]
        counts = torch.bincount(of_restart, minlength=k)
        # Taking a cluster's only point would fill one hole by making another.
        spare = own[:, restart].masked_fill(counts[of_restart] < 2, -math.inf)
        farthest = int(spare.argmax())
        labels[farthest, restart] = cluster
        own[farthest, restart] = 0.0  # it is a centroid now: the next hole takes another point
    return points.to_centroids(labels, k)[0], labels
