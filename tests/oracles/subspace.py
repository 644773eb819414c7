"""Thin bases and subspace methods in a few float64 lines each on dense updates, from the papers.

The code uses only numpy and favours readability; every SVD is dense.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.oracles.dense import Array


def svd(x: Array, rank: int) -> tuple[Array, Array, Array]:
    """Return U, sigma, Vᵀ of the `rank` largest singular values."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    return u[:, :rank], s[:rank], v[:rank]


def knots(deltas: list[Array], rank: int, rule: Callable[[list[Array]], Array]) -> Array:
    """KnOTS, arXiv 2410.19735: merge ΣV_iᵀ of the SVD of all updates side by side."""
    u, s, v = svd(np.concatenate(deltas, axis=1), rank)
    return np.asarray(u @ rule(np.split(s[:, None] * v, len(deltas), axis=1)))


def core(deltas: list[Array], ranks: Sequence[int], rule: Callable[[list[Array]], Array]) -> Array:
    """Core Space, arXiv 2509.17786: merge UᵀΔV, U and V from the stacked factors' SVDs."""
    parts = [svd(delta, rank) for delta, rank in zip(deltas, ranks, strict=True)]
    b = np.concatenate([u * np.sqrt(s) for u, s, _ in parts], axis=1)
    a = np.concatenate([np.sqrt(s)[:, None] * v for _, s, v in parts])
    u, v = svd(b, sum(ranks))[0], svd(a, sum(ranks))[2]
    return np.asarray(u @ rule([u.T @ delta @ v.T for delta in deltas]) @ v)


def tsv(deltas: list[Array], ranks: Sequence[int]) -> Array:
    """TSV-Merge, arXiv 2412.00081, algorithm 1, keeping `ranks` vectors of each update."""
    parts = [svd(delta, rank) for delta, rank in zip(deltas, ranks, strict=True)]
    u = np.concatenate([u for u, _, _ in parts], axis=1)
    v = np.concatenate([v for _, _, v in parts])
    p_u, _, q_u = np.linalg.svd(u, full_matrices=False)
    p_v, _, q_v = np.linalg.svd(v, full_matrices=False)
    return np.asarray(p_u @ q_u @ np.diag(np.concatenate([s for _, s, _ in parts])) @ p_v @ q_v)


def iso_c(deltas: list[Array], rank: int) -> Array:
    """Iso-C, arXiv 2502.04959, §4.1, with the mean over `rank` singular values."""
    u, s, v = svd(np.asarray(sum(deltas)), rank)
    return np.asarray(s.mean() * u @ v)


def pico(deltas: list[Array], bs: list[Array], *, rescale: bool = True) -> Array:
    """Pico, arXiv 2604.16826, §4: damp the directions that the b share, sum, mean norm."""
    u, s, _ = np.linalg.svd(np.concatenate(bs, axis=1), full_matrices=False)
    alpha = 1 / (1 + (len(deltas) - 1) * s**2 / (s**2).sum())
    s_pico = np.eye(len(u)) + u @ np.diag(alpha - 1) @ u.T
    merged = s_pico @ np.asarray(sum(deltas))
    gamma = np.mean([np.linalg.norm(delta) for delta in deltas]) / np.linalg.norm(merged)
    return np.asarray((gamma if rescale else 1.0) * merged)


def actmat(deltas: list[Array], shares: Sequence[float], ridge: float) -> Array:
    """ACTMat, arXiv 2604.01329: RegMean with the covariances ΔᵀΔ, times `shares`, plus a ridge."""
    cs = [share * d.T @ d for share, d in zip(shares, deltas, strict=True)]
    extra = ridge * np.linalg.norm(np.asarray(sum(cs)), 2) / len(cs) * np.eye(len(cs[0]))
    top = np.asarray(sum(d @ (c + extra) for d, c in zip(deltas, cs, strict=True)))
    return np.asarray(top @ np.linalg.pinv(sum(c + extra for c in cs), rcond=1e-10, hermitian=True))


def ctm(deltas: list[Array], rank: int, beta: float, rule: Callable[[list[Array]], Array]) -> Array:
    """Compress-then-merge: merge UᵀΔV, U and V from the Tucker-2 form of resized updates."""
    sizes = np.array([np.linalg.norm(delta) for delta in deltas])
    wanted = beta * sizes + (1 - beta) * sizes.mean()
    x = np.stack([d * w / s for d, w, s in zip(deltas, wanted, sizes, strict=True)])
    v = svd(np.concatenate(list(x)), rank)[2].T
    for _ in range(1000):
        u = svd(np.concatenate([one @ v for one in x], axis=1), rank)[0]
        v = svd(np.concatenate([one.T @ u for one in x], axis=1), rank)[0]
    return np.asarray(u @ rule([u.T @ delta @ v for delta in deltas]) @ v.T)
