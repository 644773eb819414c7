"""The elementwise families against dense float64 oracles, and against PEFT where it agrees."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from peft.utils import merge_utils

from merge.factors import Factors, Stack
from merge.methods import METHODS
from merge.weighing import order_by_content
from tests.laws.laws import random_factors
from tests.oracles import elementwise as oracle
from tests.oracles import subspace
from tests.oracles.dense import Array, dense

# The sum of ranks exceeds the smaller side, so a full-rank result loses nothing to truncation.
D_IN, D_OUT, RANKS = 34, 28, (12, 7, 16)
WEIGHTS = (1.0, -0.5, 1.3)
SEED = 5


def some_stack(weights: tuple[float, ...] = WEIGHTS) -> Stack:
    """Return three adapters of mixed ranks and scales."""
    members = [random_factors(i, r, D_IN, D_OUT, scale=0.5 + i) for i, r in enumerate(RANKS)]
    return Stack("model.m", tuple(members[: len(weights)]), weights)


def merged(stack: Stack, method: str, **options: object) -> Array:
    """Return the method's result as a dense update."""
    bound = METHODS[method].bind({"rank": 99} | options)
    del bound["scale"]
    return dense(METHODS[method].function(stack, **bound).factors)


def close(expected: Array, actual: Array, within: float = 1e-6) -> None:
    """Assert that all entries agree, relative to the largest."""
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=within * np.abs(expected).max())


def rules(stack: Stack, shape: tuple[int, int] | None = None) -> dict[str, tuple[Any, oracle.Rule]]:
    """Return by name a method with its options, and its oracle on matrices of `shape`."""
    uniform = oracle.draws(stack, SEED, shape)
    return {
        "ties": (("ties", {"density": 0.2}), partial(oracle.ties, density=0.2)),
        "ties by count": (
            ("ties", {"density": 0.6, "majority": "frequency"}),
            partial(oracle.ties, density=0.6, majority="frequency"),
        ),
        "dare_linear": (
            ("dare_linear", {"density": 0.3, "seed": SEED}),
            partial(oracle.dare_linear, uniform=uniform, density=0.3),
        ),
        "dare_ties": (
            ("dare_ties", {"density": 0.4, "seed": SEED}),
            partial(oracle.dare_ties, uniform=uniform, density=0.4),
        ),
        "della": (
            ("della", {"density": 0.5, "epsilon": 0.2, "seed": SEED}),
            partial(oracle.della, uniform=uniform, density=0.5, epsilon=0.2),
        ),
        "breadcrumbs": (
            ("breadcrumbs", {"density": 0.3, "gamma": 0.05}),
            partial(oracle.breadcrumbs, density=0.3, gamma=0.05),
        ),
        "magnitude_prune": (
            ("magnitude_prune", {"density": 0.2}),
            partial(oracle.magnitude_prune, density=0.2),
        ),
        "sce": (("sce", {"density": 0.25}), partial(oracle.sce, density=0.25)),
    }


RULES = list(rules(some_stack()))


@pytest.mark.parametrize("name", RULES)
def test_dense_is_the_published_method(name: str) -> None:
    """On dense updates, with mixed ranks, scales and signs, every entry equals the oracle's."""
    stack = some_stack()
    (method, options), rule = rules(stack)[name]

    close(rule(oracle.updates(stack)), merged(stack, method, **options))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("rank", [1, 6])
def test_result_is_the_best_of_its_rank(name: str, rank: int) -> None:
    """At a smaller rank the result is the truncated SVD of the merged matrix."""
    stack = some_stack()
    (method, options), rule = rules(stack)[name]

    expected = oracle.truncated(rule(oracle.updates(stack)), rank)

    close(expected, merged(stack, method, rank=rank, **options), within=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_knots_basis(name: str) -> None:
    """With basis=knots the same steps apply to KnOTS' aligned blocks."""
    stack = some_stack((1.0, -0.5))  # R = 19, below both sides
    (method, options), rule = rules(stack, (19, D_IN))[name]

    expected = subspace.knots(oracle.updates(stack), 19, rule)

    close(expected, merged(stack, method, basis="knots", **options), within=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_core_basis(name: str) -> None:
    """With basis=core the same steps apply to the cores of Core Space."""
    stack = some_stack((1.0, -0.5))
    (method, options), rule = rules(stack, (19, 19))[name]
    ranks = [stack.ranks[i] for i in order_by_content(stack)]

    expected = subspace.core(oracle.updates(stack), ranks, rule)

    close(expected, merged(stack, method, basis="core", **options), within=1e-5)


def test_bases_are_different_methods() -> None:
    """The three bases give different results, so none is a cheaper way to compute another."""
    stack = some_stack((1.0, -0.5))
    results = [merged(stack, "ties", basis=basis) for basis in ("dense", "knots", "core")]

    distances = [
        np.linalg.norm(x - y) / np.linalg.norm(x)
        for i, x in enumerate(results)
        for y in results[:i]
    ]

    assert min(distances) > 0.1


def tensors(stack: Stack) -> list[torch.Tensor]:
    """Return the members' updates without weights, for PEFT."""
    return [torch.from_numpy(dense(member)) for member in stack.members]


@pytest.mark.filterwarnings("ignore:The density 1.0")
@pytest.mark.parametrize(("majority", "density"), [("total", 0.25), ("frequency", 1.0)])
def test_ties_is_pefts_at_equal_weights(majority: str, density: float) -> None:
    """At equal positive weights the merged matrix is that of PEFT's `ties_svd` before its SVD."""
    stack = some_stack((0.7, 0.7, 0.7))
    expected = merge_utils.ties(tensors(stack), torch.full((3,), 0.7), density, majority)

    close(expected.numpy(), merged(stack, "ties", density=density, majority=majority))


def test_a_draw_elects_nobody_and_in_peft_the_positive_one() -> None:
    """A tie between f and -f leaves no entry in weft and the positive one in PEFT, so only in weft
    is a merge of negated updates the negated merge.
    """
    f = random_factors(0, 5, D_IN, D_OUT)
    stack = Stack("m", (f, Factors(-f.a, f.b, f.scale)), (1.0, 1.0))
    theirs = merge_utils.ties(tensors(stack), torch.ones(2), 0.5)

    assert np.abs(merged(stack, "ties", density=0.5)).max() == 0.0
    assert theirs.min() == 0.0
    assert theirs.max() > 1.0


def test_magnitude_prune_is_pefts() -> None:
    """At any weights the merged matrix is that of PEFT's `magnitude_prune_svd` before its SVD."""
    stack = some_stack()
    expected = merge_utils.magnitude_prune(tensors(stack), torch.tensor(WEIGHTS), 0.25)

    close(expected.numpy(), merged(stack, "magnitude_prune", density=0.25))


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_is_pefts_on_the_same_draws(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At equal weights and with weft's masks, PEFT's `dare_*_svd` agree before their SVD."""
    stack = some_stack((1.5, 1.5, 1.5))
    masks = iter(u < 0.5 for u in oracle.draws(stack, SEED))

    def with_our_mask(tensor: torch.Tensor, density: float, rescale: bool) -> torch.Tensor:
        assert rescale
        return tensor * torch.from_numpy(next(masks)) / density

    monkeypatch.setattr(merge_utils, "random_pruning", with_our_mask)
    by_content = [tensors(stack)[i] for i in order_by_content(stack)]
    expected = getattr(merge_utils, method)(by_content, torch.full((3,), 1.5), 0.5)

    close(expected.numpy(), merged(stack, method, density=0.5, seed=SEED))


@pytest.mark.filterwarnings("ignore:The density 1.0")
def test_ties_elects_signs_of_weighted_updates_and_peft_does_not() -> None:
    """A weight makes an update larger, so it counts in the election; PEFT applies it afterwards.

    Updates 1 and -0.6 at weights 0.2 and 0.8 are 0.2 and -0.48: the sum is negative, so the second
    alone stays. PEFT elects the first, whose weighted update is the smaller.
    """
    one = torch.ones(1, 1)
    stack = Stack("m", (Factors(one, one), Factors(one, -0.6 * one)), (0.2, 0.8))
    theirs = merge_utils.ties(tensors(stack), torch.tensor([0.2, 0.8]), 1.0)

    close(np.array([[-0.48]]), merged(stack, "ties", density=1.0))
    close(np.array([[0.2]]), theirs.numpy())
