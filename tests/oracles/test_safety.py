"""`safemerge` against its dense float64 oracle, and its limits."""

import numpy as np
import pytest
import torch

from merge.factors import Factors, Stack
from merge.methods.safemerge import safe_cosine, safemerge
from tests.laws.laws import random_factors
from tests.oracles import elementwise, safety
from tests.oracles.dense import dense
from tests.oracles.test_elementwise import close
from tests.oracles.test_subspace import some_stack, weighted


@pytest.mark.parametrize("rank", [3, 17])
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.9, 1.0])
def test_safemerge_is_the_dense_one(threshold: float, rank: int) -> None:
    """`safemerge` keeps the tasks' sum or mixes it with the last adapter, by the dense cosine."""
    stack = some_stack()
    expected = safety.safemerge(weighted(stack), threshold, 0.7)

    merged = safemerge(stack, rank=rank, threshold=threshold, task_share=0.7)
    close(elementwise.truncated(expected, rank), dense(merged.factors), within=1e-5)


def test_the_thresholds_above_are_on_both_sides() -> None:
    """The oracle's cosine of the tested stack lies between the tested thresholds."""
    *tasks, safe = weighted(some_stack())
    assert 0.05 < safety.cosine(np.sum(tasks, axis=0), safe) < 0.9


@pytest.mark.parametrize("seed", range(5))
def test_the_cosine_is_the_papers(seed: int) -> None:
    """The cosine in thin bases is the dense one, whatever the norms of the two updates."""
    task, safe = (dense(random_factors(seed + i, 4, 20, 16)) for i in (0, 50))
    expected = safety.cosine(task, safe)
    for factor in (1e-30, 1.0, 1e30):
        scaled = torch.from_numpy(task * factor), torch.from_numpy(safe / factor)
        assert safe_cosine(*scaled) == pytest.approx(expected, rel=1e-9)


def test_an_update_along_the_safe_subspace_is_kept() -> None:
    """A task whose columns lie in the one direction of a safety adapter is kept as it is."""
    safe = random_factors(1, 1, 20, 16)
    task = Factors(random_factors(2, 1, 20, 16).a, safe.b)
    merged = safemerge(Stack("m", (task, safe), (1.0, 1.0)), rank=2, threshold=0.99)
    close(dense(task), dense(merged.factors), within=1e-5)


def test_an_update_orthogonal_to_the_safe_subspace_is_mixed() -> None:
    """A task that the safe subspace does not contain at all is mixed at the smallest threshold."""
    eye = torch.eye(16)
    task, safe = (
        Factors(random_factors(i, 2, 20, 16).a, eye[:, 3 * i : 3 * i + 2]) for i in (0, 1)
    )
    merged = safemerge(Stack("m", (task, safe), (1.0, 2.0)), rank=4, threshold=1e-6)
    close(0.7 * dense(task) + 0.6 * dense(safe), dense(merged.factors), within=1e-5)


def test_nothing_to_compare_is_not_safe() -> None:
    """Where the tasks or the safety adapter are zero, the module counts as outside."""
    zero, some = torch.zeros(4, 3), torch.ones(4, 3)
    assert safe_cosine(zero, some) == safe_cosine(some, zero) == 0.0
