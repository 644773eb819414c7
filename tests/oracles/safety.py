"""SafeMERGE on dense float64 updates, written from arXiv 2503.17239, §3.

The code uses only numpy.
"""

import numpy as np

from tests.oracles.dense import Array


def cosine(task: Array, safety: Array) -> float:
    """Return cos(W, C W) with C = V Vᵀ / |V|, V being the safety adapter's update."""
    projected = safety @ safety.T / np.linalg.norm(safety) @ task
    return float((task * projected).sum() / np.linalg.norm(task) / np.linalg.norm(projected))


def safemerge(deltas: list[Array], threshold: float, task_share: float) -> Array:
    """Return ΣW, or task_share · ΣW + (1 - task_share) · V where the cosine is too small."""
    task, safety = np.sum(deltas[:-1], axis=0), deltas[-1]
    if cosine(task, safety) >= threshold:
        return np.asarray(task)
    return np.asarray(task_share * task + (1.0 - task_share) * safety)
