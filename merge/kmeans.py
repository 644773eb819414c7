"""Weighted k-means on points given by their Gram matrix, many sets of points at once.

Squared distances between points and centroids (which are weighted means of points) are linear in
inner products, so n points in any number of dimensions cost no more than an (n, n) matrix, and the
clusters are those of k-means on the vectors. All restarts of all sets run together as one batch, on
the device where the matrices lie, and a set's result does not depend on the others in its batch.

Algorithm: greedy k-means++ seeding with 2 + ⌊ln k⌋ candidates a step (Arthur and Vassilvitskii
2007, §5 "greedy"; the variant scikit-learn uses), then Lloyd's iterations until no label changes.
There is no movement tolerance: in thousands of dimensions the customary one, relative to the
variance per dimension, stops at the same step.

Shape letters: M sets, n points of a set, n_init restarts, k clusters, c candidates of a step.
Not covered: many points. Memory is O(n_init · n · k), time per step O(n_init · n² k).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ITERATIONS = 300
# Squared distances are differences of inner products, so their error is some units in the last
# place of the largest inner product, however small they are. A move that gains less than this many
# units is noise: without the bound, coinciding points swap clusters until MAX_ITERATIONS.
_NOISE_UNITS = 64
# Entries of point-to-centroid distances that are worked on at once, 2 MB in float64 on a CPU, so
# that they stay in its caches; a GPU is not filled by less than 128 MB.
_ENTRIES_ON_CPU, _ENTRIES_ON_GPU = 2**18, 2**24


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """The best of all restarts: every one of the k clusters has a point."""

    labels: Tensor  # (n,) int64 in [0, k), on the Gram matrix's device
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
    """Cluster n points, as `kmeans_of_each` does for one set of points."""
    return kmeans_of_each(
        gram[None],
        weight[None],
        k,
        generators=[generator],
        n_init=n_init,
        initial_centers=initial_centers,
    )[0]


def kmeans_of_each(
    grams: Tensor,
    weights: Tensor,
    k: int,
    *,
    generators: Sequence[torch.Generator],
    n_init: int = 10,
    initial_centers: Tensor | None = None,
) -> list[Clustering]:
    """Cluster the n points of each of M sets into exactly k non-empty clusters.

    An empty cluster takes the point farthest from its centroid out of a cluster that has at least
    two, so coinciding points never leave a cluster empty. Ties go to the lowest index; of restarts
    whose inertia is equal up to rounding the first wins.

    Args:
        grams: (M, n, n) inner products of the points. Its dtype, float64 or float32, says how exact
            they are: a point moves only if it gains more than their rounding.
        weights: (M, n) float64, positive sample weights; only their ratios within a set matter.
        k: 1 ≤ k ≤ n.
        generators: M, of the CPU; each draws its set's seedings, and nothing else is random.
        n_init: restarts, at least 1.
        initial_centers: (k,) indices of points to start from instead, once, without drawing.
    """
    n = grams.shape[1]
    if k == n:  # a point each: no partition is better
        return [Clustering(torch.arange(n, device=grams.device), 0.0) for _ in grams]
    restarts = n_init if initial_centers is None else 1
    most = _ENTRIES_ON_CPU if grams.device.type == "cpu" else _ENTRIES_ON_GPU
    size = max(1, most // (n * restarts * k))  # sets of a batch
    clusterings = []
    for begin in range(0, len(grams), size):
        sets = slice(begin, begin + size)
        points = _Points.of(grams[sets], weights[sets])
        if initial_centers is None:
            draws = torch.stack([_uniform(n_init, k, generator) for generator in generators[sets]])
            labels = _seed(points, draws.to(grams.device))  # CPU draws: equal on every device
        else:
            labels = points.distances()[:, :, initial_centers].argmin(2)[:, :, None]
        clusterings += _best(points, *_lloyd(points, labels, k))
    return clusterings


def _best(points: "_Points", labels: Tensor, inertia: Tensor) -> list[Clustering]:
    """Return the first restart of each set whose inertia is the least up to rounding."""
    # Restarts that end in one partition, or divide copies differently, differ by rounding: by less
    # than a unit for each point.
    best = _first_least(inertia, (points.unit * points.weight.sum(1))[:, None])  # (M,)
    rows = torch.arange(len(best), device=best.device)
    chosen = zip(labels[rows, :, best], inertia[rows, best].tolist(), strict=True)
    return [Clustering(of_set, total) for of_set, total in chosen]


@dataclass(frozen=True, slots=True, eq=False)
class _Points:
    """M sets of points, as inner products and weights."""

    gram: Tensor  # (M, n, n) float64
    weight: Tensor  # (M, n) float64
    unit: Tensor  # (M,) float64: a unit in the last place of the largest inner product

    @classmethod
    def of(cls, gram: Tensor, weight: Tensor) -> "_Points":
        # The rounding is the input's, so it is read off before the arithmetic goes on in float64.
        largest = gram.diagonal(dim1=1, dim2=2).amax(1).double()
        return cls(gram.double(), weight, torch.finfo(gram.dtype).eps * largest)

    def __getitem__(self, sets: Tensor) -> "_Points":
        """Return the chosen sets; `sets` (M,) is true for them."""
        return _Points(self.gram[sets], self.weight[sets], self.unit[sets])

    @property
    def squares(self) -> Tensor:
        """Squares of the points, (M, n)."""
        return self.gram.diagonal(dim1=1, dim2=2)

    def distances(self) -> Tensor:
        """Return squared distances between points, (M, n, n)."""
        apart = self.squares[:, :, None] + self.squares[:, None] - 2 * self.gram
        # Rounding makes distances of coinciding points negative; as a mass to draw from (`_draw`)
        # they would make the cumulative sums fall.
        return apart.clamp_(min=0.0)

    def to_centroids(self, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return squared distances to centroids less the point's own square, and masses.

        Args:
            labels: (M, n, n_init).
            k: the number of clusters.

        Returns:
            (M, n, n_init, k), infinite to empty clusters, and (M, n_init, k) sums of weights.
        """
        sets, n, restarts = labels.shape
        weight = self.weight[:, :, None].expand_as(labels)
        mass = _sums(weight, labels, k)
        part = weight / mass.gather(2, labels.mT).mT  # of the point in its centroid
        share = part.new_zeros(sets, n, restarts, k).scatter_(3, labels[..., None], part[..., None])
        # One product for all restarts: (n, n) @ (n, n_init k) runs at matrix-product speed.
        cross = (self.gram @ share.flatten(2)).view_as(share)  # ⟨point, centroid⟩
        squares = _sums(part * _own(cross, labels), labels, k)  # |centroid|²
        squares = squares.masked_fill_(mass == 0.0, math.inf)
        return torch.add(squares[:, None], cross, alpha=-2.0), mass

    def inertia(self, own: Tensor) -> Tensor:
        """Return Σ weight · squared distance to the own centroid of each restart, (M, n_init)."""
        apart = (own + self.squares[:, :, None]).clamp_(min=0.0)
        return (self.weight[:, None] @ apart)[:, 0]


def _uniform(n_init: int, k: int, generator: torch.Generator) -> Tensor:
    # All draws at once, so that their number does not depend on what the earlier ones chose.
    candidates = 2 + int(math.log(k))
    return torch.rand(n_init, k, candidates, dtype=torch.float64, generator=generator)


def _seed(points: _Points, draws: Tensor) -> Tensor:
    """Return the labels (M, n, n_init) of the nearest of k centers, by greedy k-means++.

    Of a few candidates drawn in proportion to weight · squared distance, each step takes the one
    that leaves the least inertia (Arthur and Vassilvitskii 2007, §5).

    Args:
        points: M sets.
        draws: (M, n_init, k, c) float64 from [0, 1).
    """
    sets, n = points.weight.shape
    _, restarts, k, candidates = draws.shape
    # Rows of all sets below one another: a set's points are found behind an offset. Distances come
    # weighted, since a weight changes no comparison of a point's distances.
    masses = (points.distances() * points.weight[:, None]).view(sets * n, n)
    offset = torch.arange(0, sets * n, n, device=draws.device)[:, None, None]
    at_candidates = torch.arange(0, sets * restarts * candidates, candidates, device=draws.device)
    first = _draw(points.weight[:, None].expand(-1, restarts, -1), draws[:, :, 0, :1])
    mass = _rows(masses, first + offset)[:, :, 0]  # (M, n_init, n), to the nearest center so far
    labels = torch.zeros_like(mass, dtype=torch.int64)
    for step in range(1, k):
        drawn = _draw(mass, draws[:, :, step])  # (M, n_init, c)
        reached = torch.minimum(mass[:, :, None], _rows(masses, drawn + offset))  # (…, c, n)
        left = reached.sum(3)  # (M, n_init, c), of inertia
        # Of the last two points of a group each does as a center, but for the rounding of a sum.
        chosen = _first_least(left, n * torch.finfo(left.dtype).eps * left).flatten()
        nearer = _rows(reached.flatten(0, 2), chosen + at_candidates).view_as(mass)
        labels.masked_fill_(nearer < mass, step)
        mass = nearer
    return labels.mT.contiguous()


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Return x[index], (…, n), for x (rows, n); many times as fast for whole rows."""
    return x.index_select(0, index.flatten()).view(*index.shape, -1)


def _draw(mass: Tensor, uniform: Tensor) -> Tensor:
    """Return (M, n_init, m) indices drawn in proportion to `mass` (M, n_init, n), by inversion.

    `torch.multinomial` is not used: its algorithm, and so the draw of a seed, may change between
    releases of torch.
    """
    cumulative = mass.cumsum(2)
    # right=True never returns a point of mass 0 ahead of one with mass; where all mass is 0 (every
    # point is a center already) it runs past the end, which the clamp turns into the last point.
    wanted = (uniform * cumulative[:, :, -1:]).contiguous()
    drawn = torch.searchsorted(cumulative, wanted, right=True)
    return drawn.clamp_(max=mass.shape[2] - 1)


def _lloyd(points: _Points, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return labels (M, n, n_init) that no further step changes, and inertia (M, n_init).

    Lloyd's iteration on all restarts at once; every cluster has a point in the end. A restart that
    has converged is stepped along unchanged until its set's restarts have.
    """
    inertia = points.weight.new_empty(len(labels), labels.shape[2])
    result, going = labels.clone(), torch.arange(len(labels), device=labels.device)
    for step in range(MAX_ITERATIONS + 1):
        to_centroids, labels = _repaired(points, labels, k)
        own = _own(to_centroids, labels)
        result[going], inertia[going] = labels, points.inertia(own)
        least, nearest = to_centroids.min(3)
        # A point stays unless another centroid is nearer by more than rounding: this ends ties.
        moves = own - least > (_NOISE_UNITS * points.unit)[:, None, None]
        moving = moves.any(2).any(1)
        if step == MAX_ITERATIONS or not moving.any():
            break
        labels = torch.where(moves, nearest, labels)
        if not moving.all():  # go on without the sets that have converged
            points, labels, going = points[moving], labels[moving], going[moving]
    return result, inertia


def _repaired(points: _Points, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return distances to centroids and labels, after giving every empty cluster a point."""
    to_centroids, mass = points.to_centroids(labels, k)
    if mass.all():
        return to_centroids, labels
    labels = labels.clone()
    own = _own(to_centroids, labels) + points.squares[:, :, None]
    for of_set, restart, cluster in (mass == 0.0).nonzero().tolist():
        of_restart, apart = labels[of_set, :, restart], own[of_set, :, restart]
        counts = torch.bincount(of_restart, minlength=k)
        # Taking a cluster's only point would fill one hole by making another.
        spare = apart.masked_fill(counts[of_restart] < 2, -math.inf)
        farthest = int(spare.argmax())
        of_restart[farthest] = cluster
        apart[farthest] = 0.0  # it is a centroid now: the next hole takes another point
    return points.to_centroids(labels, k)[0], labels


def _first_least(inertia: Tensor, rounding: Tensor) -> Tensor:
    """Return the first place along the last dimension that holds the least up to `rounding`.

    Equal inertia is no coincidence, and without the bound the machine would decide, which rounds
    in its own way.
    """
    return (inertia - rounding <= inertia.amin(-1, keepdim=True)).int().argmax(-1)


def _sums(x: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return the sums of x (M, n, n_init) over each cluster's points, (M, n_init, k)."""
    sums = x.new_zeros(labels.shape[0], labels.shape[2], k)
    return sums.scatter_add_(2, labels.mT, x.mT)


def _own(to_centroids: Tensor, labels: Tensor) -> Tensor:
    """Return the entries of (M, n, n_init, k) at each point's own cluster, (M, n, n_init)."""
    return to_centroids.gather(3, labels[..., None])[..., 0]
