"""TSV-Merge, Iso-C and compress-then-merge against their dense float64 oracles."""

from functools import partial

import numpy as np
import pytest
import torch

from merge.factors import Factors, Stack
from merge.methods import METHODS
from tests.laws.laws import random_factors
from tests.oracles import elementwise, subspace
from tests.oracles.dense import Array, dense
from tests.oracles.test_elementwise import close

D_IN, D_OUT, RANKS = 64, 48, (6, 3, 8)
WEIGHTS = (1.0, -0.5, 1.3)


def some_stack() -> Stack:
    """Return three adapters of mixed ranks and scales, with R far below both sides."""
    members = [random_factors(i, r, D_IN, D_OUT, scale=0.5 + i) for i, r in enumerate(RANKS)]
    return Stack("model.m", tuple(members), WEIGHTS)


def merged(stack: Stack, method: str, **options: object) -> Array:
    """Return the method's result as a dense update."""
    bound = METHODS[method].bind({"rank": 99} | options)
    del bound["scale"]
    return dense(METHODS[method].function(stack, **bound).factors)


def weighted(stack: Stack) -> list[Array]:
    """Return the members' weight · update in the stack's order."""
    return [w * dense(f) for w, f in zip(stack.weights, stack.members, strict=True)]


@pytest.mark.parametrize("rank", [2, 9, 17])
def test_tsv_is_the_dense_one(rank: int) -> None:
    """`tsv` keeps each adapter's own rank and equals the truncated dense procedure."""
    expected = elementwise.truncated(subspace.tsv(weighted(some_stack()), RANKS), rank)

    close(expected, merged(some_stack(), "tsv", rank=rank), within=1e-5)


def test_tsv_with_vectors_of_the_null_space_is_another_thing() -> None:
    """Keeping min(d_in, d_out) / T vectors, as for full fine-tuning, changes the result greatly."""
    deltas = weighted(some_stack())
    right = subspace.tsv(deltas, RANKS)
    trap = subspace.tsv(deltas, [D_OUT // 3] * 3)

    assert np.linalg.norm(trap - right) / np.linalg.norm(right) > 0.2


def test_tsv_of_orthogonal_adapters_is_their_sum() -> None:
    """The `tsv` merge of orthogonal adapters is their sum."""
    eye = np.eye(D_IN, dtype=np.float32)
    parts = []
    for start in (0, 10, 20):
        f = random_factors(start, 4, 10, 10)
        a, b = f.a @ f.a.new_tensor(eye[start : start + 10]), f.a.new_zeros(D_OUT, 4)
        b[start : start + 10] = f.b
        parts.append(Factors(a, b, f.scale))
    stack = Stack("m", tuple(parts), WEIGHTS)

    close(np.asarray(sum(weighted(stack))), merged(stack, "tsv"), within=1e-5)


def test_copies_in_tsv_share_their_directions() -> None:
    """The `tsv` merge of three copies at weight 1 is the adapter itself."""
    f = random_factors(0, 5, D_IN, D_OUT)

    close(dense(f), merged(Stack("m", (f, f, f), (1.0, 1.0, 1.0)), "tsv"), within=1e-5)


@pytest.mark.parametrize("rank", [2, 9, 17])
def test_iso_c_is_the_dense_one_over_the_sums_rank(rank: int) -> None:
    """`iso_c` flattens the R singular values of the sum and keeps its k strongest directions."""
    u, s, v = subspace.svd(np.asarray(sum(weighted(some_stack()))), 17)
    expected = s.mean() * u[:, :rank] @ v[:rank]

    close(expected, merged(some_stack(), "iso_c", rank=rank), within=1e-5)
    if rank == 17:
        close(subspace.iso_c(weighted(some_stack()), 17), expected)


def test_iso_c_on_the_dense_update_is_mostly_null_space() -> None:
    """The mean over min(d_in, d_out) gives 1 - R/d of the energy to directions of no adapter."""
    deltas = weighted(some_stack())
    dense_one = subspace.iso_c(deltas, D_OUT)
    u = subspace.svd(np.asarray(sum(deltas)), 17)[0]

    inside = np.linalg.norm(u.T @ dense_one) ** 2 / np.linalg.norm(dense_one) ** 2

    assert inside == pytest.approx(17 / D_OUT, rel=1e-6)


def decaying_stack() -> Stack:
    """Return adapters whose singular values fall by a third; flat spectra have many optima."""
    members = []
    for f in some_stack().members:
        size = torch.tensor(1.5) ** -torch.arange(f.rank)
        members.append(Factors(f.a, f.b * size, f.scale))
    return Stack("model.m", tuple(members), WEIGHTS)


@pytest.mark.parametrize("rank", [1, 4, 8])
@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_ctm_with_the_mean(rank: int, beta: float) -> None:
    """`ctm` equals the mean of cores in the dense Tucker-2 bases, which are fully converged."""
    stack = decaying_stack()

    expected = subspace.ctm(weighted(stack), rank, beta, lambda cores: np.mean(cores, axis=0))

    # A gain is the square of an error: the tolerance of 1e-6 leaves some thousandths.
    close(expected, merged(stack, "ctm", rank=rank, beta=beta, rule="mean"), within=5e-3)


@pytest.mark.parametrize("rule", ["ties", "magnitude_prune"])
def test_ctm_with_elementwise_rules(rule: str) -> None:
    """`ctm` applies an elementwise method's steps to the cores; at rank R the bases are exact."""
    by_name = {"ties": elementwise.ties, "magnitude_prune": elementwise.magnitude_prune}
    expected = subspace.ctm(weighted(some_stack()), 17, 0.25, partial(by_name[rule], density=0.5))

    close(expected, merged(some_stack(), "ctm", rank=17, rule=rule, density=0.5), within=1e-5)


def test_ctm_needs_no_truncation() -> None:
    """The result has the requested rank without truncation: cores are merged after compression."""
    result = METHODS["ctm"].function(some_stack(), rank=4)

    assert 4 == result.factors.rank
    assert result.energy == pytest.approx(1.0)
