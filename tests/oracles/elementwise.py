"""The elementwise families in a few float64 lines each on dense updates, written from their papers.

The code uses only numpy and favours readability. An update here is weight · scale · b a. Random
steps receive their draws as arguments: `draws` makes the same generator calls as `merge.prune`, one
matrix from `torch.rand` per member, seeded by the member's place in the order of content.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from merge.factors import Stack
from merge.seeds import generator_for
from merge.weighing import order_by_content
from tests.oracles.dense import Array, dense

Rule = Callable[[list[Array]], Array]


def updates(stack: Stack) -> list[Array]:
    """Return the members' weight · scale · b a, (d_out, d_in), in the order of content."""
    return [stack.weights[i] * dense(stack.members[i]) for i in order_by_content(stack)]


def draws(
    stack: Stack, seed: int, shape: tuple[int, int] | None = None
) -> list[NDArray[np.float32]]:
    """Return one matrix of uniform draws per member, by default of the update's shape."""
    shape = shape or (stack.members[0].b.shape[0], stack.members[0].a.shape[1])
    count = len(stack.members)
    generators = [generator_for(seed, f"{stack.module}\0{i}") for i in range(count)]
    return [torch.rand(shape, generator=generator).numpy() for generator in generators]


def trimmed(x: Array, density: float) -> Array:
    """Keep the share of largest magnitudes (TIES, step 1)."""
    least = np.sort(np.abs(x), axis=None)[-max(1, round(density * x.size))]
    return np.where(np.abs(x) >= least, x, 0.0)


def elected(x: Array, sign: Array) -> Array:
    """Keep the entries (T, …) with the elected sign (TIES, step 2)."""
    return np.where(np.sign(x) == sign, x, 0.0)


def disjoint_mean(x: Array) -> Array:
    """Return the mean over the members with a remaining entry (TIES, step 3)."""
    return np.asarray(x.sum(0) / np.maximum((x != 0).sum(0), 1))


def ties(deltas: list[Array], density: float, majority: str = "total") -> Array:
    """TIES-Merging, arXiv 2306.01708, algorithm 1."""
    x = np.stack([trimmed(delta, density) for delta in deltas])
    return disjoint_mean(elected(x, np.sign((x if majority == "total" else np.sign(x)).sum(0))))


def magnitude_prune(deltas: list[Array], density: float) -> Array:
    """Apply TIES' step 1, then sum."""
    return np.asarray(sum(trimmed(delta, density) for delta in deltas))


def dare(deltas: list[Array], uniform: list[NDArray[np.float32]], density: float) -> Array:
    """DARE, arXiv 2311.03099, equations 1 to 3, of every update, (T, d_out, d_in)."""
    return np.stack([x * (u < density) / density for x, u in zip(deltas, uniform, strict=True)])


def dare_linear(deltas: list[Array], uniform: list[NDArray[np.float32]], density: float) -> Array:
    """Return the sum of DARE-pruned updates."""
    return np.asarray(dare(deltas, uniform, density).sum(0))


def dare_ties(deltas: list[Array], uniform: list[NDArray[np.float32]], density: float) -> Array:
    """Apply TIES' steps 2 and 3 to DARE-pruned updates."""
    x = dare(deltas, uniform, density)
    return disjoint_mean(elected(x, np.sign(x.sum(0))))


def della(
    deltas: list[Array], uniform: list[NDArray[np.float32]], density: float, epsilon: float
) -> Array:
    """DELLA, arXiv 2406.11617, §3: keep probabilities by rank within the row."""
    pruned = []
    for x, u in zip(deltas, uniform, strict=True):
        rising = np.abs(x).argsort(axis=1)
        rank = rising.argsort(axis=1) / (x.shape[1] - 1)  # from 0, the smallest, to 1
        probability = density - epsilon + 2 * epsilon * rank
        drawn = np.take_along_axis(u, rising.argsort(axis=1), axis=1)  # drawn by rank
        pruned.append(np.where(drawn < probability, x / probability, 0.0))
    stacked = np.stack(pruned)
    return disjoint_mean(elected(stacked, np.sign(stacked.sum(0))))


def breadcrumbs(deltas: list[Array], density: float, gamma: float) -> Array:
    """Model Breadcrumbs, arXiv 2312.06795, §3: neither the largest nor the smallest."""
    result = np.zeros_like(deltas[0])
    for x in deltas:
        falling = np.abs(x).argsort(axis=None)[::-1]
        kept = falling[round(gamma * x.size) :][: max(1, round(density * x.size))]
        result.flat[kept] += x.flat[kept]
    return result


def sce(deltas: list[Array], density: float) -> Array:
    """SCE, arXiv 2408.07990, §3.3: select, calculate, erase."""
    x = np.stack(deltas)
    variance = x.var(axis=0)
    x = x * (variance >= np.sort(variance, axis=None)[-max(1, round(density * variance.size))])
    share = (x**2).sum((1, 2)) / (x**2).sum()
    x = elected(x, np.sign(x.sum(0)))
    mass = np.einsum("t,tij->ij", share, x != 0)
    return np.asarray(np.einsum("t,tij->ij", share, x) / np.where(mass > 0, mass, 1.0))


def truncated(x: Array, rank: int) -> Array:
    """Return the best approximation of that rank."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    return np.asarray((u[:, :rank] * s[:rank]) @ v[:rank])
