"""Means, interpolations and controls in a few float64 lines on dense updates, from their papers.

The code uses only numpy and favours readability; updates are whole matrices, vectors are flattened.
"""

import numpy as np

from merge.factors import Factors
from tests.oracles.dense import Array, dense


def weighted(members: list[Factors], weights: list[float]) -> Array:
    """Return weighted updates as vectors, (T, d_out · d_in)."""
    return np.array([w * dense(f).ravel() for f, w in zip(members, weights, strict=True)])


def truncated(x: Array, rank: int) -> Array:
    """Return the best rank-k approximation."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    return np.asarray((u[:, :rank] * s[:rank]) @ v[:rank])


def rank_for(x: Array, energy: float) -> int:
    """Return the smallest rank that keeps a share of the energy."""
    squares = np.linalg.svd(x, compute_uv=False) ** 2
    return int(np.argmax(np.cumsum(squares) >= energy * squares.sum())) + 1


def average(vectors: Array) -> Array:
    """Model soups: the mean."""
    return np.asarray(vectors.mean(0))


def slerp(vectors: Array, t: float) -> Array:
    """Shoemake's arc between the directions; norms are interpolated linearly."""
    p, q = np.linalg.norm(vectors, axis=1)
    u, v = vectors[0] / p, vectors[1] / q
    angle = np.arccos(u @ v)
    direction = (np.sin((1 - t) * angle) * u + np.sin(t * angle) * v) / np.sin(angle)
    return np.asarray(((1 - t) * p + t * q) * direction)


def karcher(vectors: Array, weights: list[float]) -> Array:
    """Buss and Fillmore's algorithm A1 on the vectors themselves; `vectors` are unweighted."""
    share = np.array(weights) / sum(weights)
    norms = np.linalg.norm(vectors, axis=1)
    points = vectors / norms[:, None]
    mean = share @ points / np.linalg.norm(share @ points)
    for _ in range(200):
        angles = np.arccos(points @ mean)
        logs = (points - np.outer(np.cos(angles), mean)) * (angles / np.sin(angles))[:, None]
        step = share @ logs
        size = np.linalg.norm(step)
        mean = np.cos(size) * mean + np.sinc(size / np.pi) * step
    return np.asarray((share @ norms) * mean)


def model_stock(vectors: Array) -> Array:
    """The paper's ratio from the mean pairwise cosine, towards an anchor at 0."""
    n = len(vectors)
    points = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    c = np.mean([points[i] @ points[j] for i in range(n) for j in range(n) if i != j])
    return np.asarray(n * c / (1 + (n - 1) * c) * vectors.mean(0))


def lorahub(members: list[Factors], weights: list[float]) -> Array:
    """LoraHub's composition: A and B are summed separately, each with the whole weight."""
    pairs = list(zip(members, weights, strict=True))
    a = sum(w * np.sqrt(f.scale) * f.a.double().numpy() for f, w in pairs)
    b = sum(w * np.sqrt(f.scale) * f.b.double().numpy() for f, w in pairs)
    return np.asarray(b @ a)
