"""Pico and ACTMat against their dense float64 oracles, and on inputs that break naive forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from merge.factors import Factors, Stack
from merge.methods import METHODS
from tests.laws.laws import random_factors
from tests.oracles import elementwise, subspace
from tests.oracles.dense import Array, dense
from tests.oracles.test_elementwise import close
from tests.oracles.test_subspace import D_IN, D_OUT, RANKS, WEIGHTS, merged, some_stack, weighted


def weighted_b(stack: Stack) -> list[Array]:
    """Return the members' weight · scale · b."""
    return [
        w * f.scale * f.b.double().numpy()
        for w, f in zip(stack.weights, stack.members, strict=True)
    ]


def svd_b(stack: Stack) -> list[Array]:
    """Return U Σ of the members' weight · update."""
    triplets = [subspace.svd(d, r) for d, r in zip(weighted(stack), stack.ranks, strict=True)]
    return [u * s for u, s, _ in triplets]


def shares(stack: Stack) -> list[float]:
    """Return 1 / |weight · update|² of the members."""
    return [float(1 / np.linalg.norm(delta) ** 2) for delta in weighted(stack)]


def kin(noise: float) -> Stack:
    """Return three adapters whose a began at one point and moved by `noise`."""
    first = random_factors(7, 6, D_IN, D_OUT)
    members = [
        Factors(first.a + noise * f.a, f.b, f.scale)
        for f in (random_factors(seed, 6, D_IN, D_OUT) for seed in range(3))
    ]
    return Stack("model.m", tuple(members), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("rank", [2, 17])
@pytest.mark.parametrize("rescale", [True, False])
def test_pico_is_the_dense_one(rank: int, *, rescale: bool) -> None:
    """`pico` is the formula on the stacked b, truncated; weights and scales are in b."""
    stack = some_stack()
    expected = subspace.pico(weighted(stack), weighted_b(stack), rescale=rescale)

    actual = merged(stack, "pico", rank=rank, rescale=rescale)

    close(elementwise.truncated(expected, rank), actual, within=1e-5)


def test_canonical_pico_measures_updates() -> None:
    """With canonical=true the shared directions are those of UΣ, for every factorisation."""
    stack = some_stack()
    g = torch.eye(6) + 0.3 * torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    first = stack.members[0]
    gauged = Factors(g @ first.a, first.b @ torch.linalg.inv(g), first.scale)
    other = replace(stack, members=(gauged, *stack.members[1:]))
    expected = subspace.pico(weighted(stack), svd_b(stack))

    for factored in (stack, other):
        close(expected, merged(factored, "pico", canonical=True), within=1e-5)
    plain = merged(stack, "pico")
    assert np.linalg.norm(merged(other, "pico") - plain) / np.linalg.norm(plain) > 0.01


def test_pico_before_tsv() -> None:
    """With rule=tsv the calibrated updates go through TSV-Merge, and then to the mean norm."""
    stack = some_stack()
    deltas = weighted(stack)
    u, s, _ = np.linalg.svd(np.concatenate(weighted_b(stack), axis=1), full_matrices=False)
    damp = (u / (1 + 2 * s**2 / (s**2).sum())) @ u.T
    expected = subspace.tsv([damp @ delta for delta in deltas], RANKS)
    mean = np.mean([np.linalg.norm(delta) for delta in deltas])

    close(
        expected * mean / np.linalg.norm(expected), merged(stack, "pico", rule="tsv"), within=1e-5
    )


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("rank", "ridge"), [(17, 0.0), (3, 0.0), (17, 0.05)])
def test_actmat_is_the_dense_one(rank: int, ridge: float, *, normalise: bool) -> None:
    """`actmat` equals RegMean on covariances ΔᵀΔ, of any scale and with a ridge, truncated."""
    stack = some_stack()
    expected = subspace.actmat(
        weighted(stack), shares(stack) if normalise else [1.0] * len(RANKS), ridge
    )

    actual = merged(stack, "actmat", rank=rank, ridge=ridge, normalise=normalise)

    close(elementwise.truncated(expected, rank), actual, within=2e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_dependent_rows_and_narrow_modules(*, normalise: bool) -> None:
    """Adapters of less than their rank, in a module narrower than all ranks together, are merged as
    the dense formulas say.
    """
    members = []
    for seed, rank in enumerate(RANKS):
        f = random_factors(seed, rank, 10, 12)
        members.append(Factors(f.a.repeat(2, 1), torch.cat([f.b, 2.0 * f.b], 1), f.scale))
    stack = Stack("m", tuple(members), WEIGHTS)
    sizes = shares(stack) if normalise else [1.0] * len(RANKS)

    actual = merged(stack, "actmat", normalise=normalise)

    close(subspace.actmat(weighted(stack), sizes, 0.0), actual, within=1e-4)
    close(subspace.pico(weighted(stack), weighted_b(stack)), merged(stack, "pico"), within=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_actmat_does_to_each_members_inputs_what_the_member_does(*, normalise: bool) -> None:
    """On the rows of a member that no other shares, the merge equals the weighted update."""
    stack = some_stack()
    result = merged(stack, "actmat", normalise=normalise)

    for f, delta in zip(stack.members, weighted(stack), strict=True):
        a = f.a.double().numpy()
        close(delta @ a.T, result @ a.T, within=1e-4)


def test_normalised_covariances_weigh_adapters_alike() -> None:
    """An adapter a hundred times as large decides alone by default, and not with normalise=true."""
    stack = kin(0.0)
    loud = replace(stack, weights=(100.0, 1.0, 1.0))
    first, second, _ = (dense(f) for f in stack.members)

    def cosine(x: Array, y: Array) -> float:
        return float((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))

    plain, even = (merged(loud, "actmat", normalise=flag) for flag in (False, True))

    assert cosine(plain, first) > 0.9999
    close(first * 100.0, plain, within=2e-3)
    assert np.linalg.norm(even) < 0.5 * np.linalg.norm(plain)
    assert abs(cosine(first, second)) < 0.5


def test_a_ridge_and_the_mean_norm_bound_what_nearly_equal_inputs_raise() -> None:
    """Members that read nearly equal inputs are told apart by large numbers: a ridge brings the
    result towards the mean update, and rescale=true to the members' mean norm.
    """
    stack = kin(0.01)
    norms = [float(np.linalg.norm(delta)) for delta in weighted(stack)]
    mean = np.mean([dense(f) for f in stack.members], axis=0)

    exact = merged(stack, "actmat")
    ridged = merged(stack, "actmat", ridge=1.0)
    matched = merged(stack, "actmat", rescale=True)

    assert np.linalg.norm(exact) > 10 * max(norms)
    assert np.linalg.norm(ridged - mean) < 0.5 * np.linalg.norm(mean)
    assert np.linalg.norm(matched) == pytest.approx(np.mean(norms), rel=1e-5)


@pytest.mark.parametrize("method", ["pico", "actmat"])
def test_adapters_that_share_nothing(method: str) -> None:
    """Members on separate inputs and outputs keep their directions: `actmat` gives their sum, and
    `pico`, where their spectra are flat, the sum at their mean norm.
    """
    members = []
    for at in (0, 10, 20):
        a, b = torch.zeros(4, D_IN), torch.zeros(D_OUT, 4)
        a[:, at : at + 4] = torch.eye(4)
        b[at : at + 4] = 2.0 * torch.eye(4)
        members.append(Factors(a, b))
    total = np.asarray(sum(map(dense, members)))
    expected = total / np.sqrt(3) if method == "pico" else total

    close(expected, merged(Stack("m", tuple(members), (1.0, 1.0, 1.0)), method), within=1e-5)


def test_actmat_of_copies_in_any_factorisation_is_the_adapter() -> None:
    """Copies of one adapter, each factored in its own way, are that adapter at weight 1 each."""
    f = random_factors(0, 5, D_IN, D_OUT)
    g = torch.eye(5) + 0.3 * torch.randn(5, 5, generator=torch.Generator().manual_seed(1))
    other = Factors(g @ f.a, f.b @ torch.linalg.inv(g), f.scale)

    for options in ({}, {"normalise": True}, {"ridge": 0.3}, {"rescale": True}):
        close(dense(f), merged(Stack("m", (f, other, f), (1.0,) * 3), "actmat", **options), 1e-5)


@pytest.mark.parametrize("method", ["pico", "actmat"])
@pytest.mark.parametrize("rescale", [True, False])
def test_a_silent_adapter_and_a_faint_one_do_no_harm(method: str, *, rescale: bool) -> None:
    """A zero adapter leaves directions alone, and one of a millionth the size changes little."""
    f, zero = (
        random_factors(0, 5, D_IN, D_OUT),
        Factors(torch.zeros(3, D_IN), torch.zeros(D_OUT, 3)),
    )
    faint = random_factors(1, 4, D_IN, D_OUT, scale=1e-8)
    ones = (1.0, 1.0)

    for normalise in ({}, {"normalise": True}) if method == "actmat" else ({},):
        for second in (zero, faint):
            result = merged(Stack("m", (f, second), ones), method, rescale=rescale, **normalise)
            size = np.linalg.norm(result) / np.linalg.norm(dense(f))
            cosine = (result * dense(f)).sum() / np.linalg.norm(result) / np.linalg.norm(dense(f))
            assert cosine > 0.98
            assert size == pytest.approx(0.5, abs=1e-3) if rescale else size > 0.5


@pytest.mark.parametrize("method", ["pico", "actmat"])
def test_opposite_adapters_cancel(method: str) -> None:
    """An adapter and its negative give zero, whatever norm is asked for, not scaled-up rounding."""
    f = random_factors(0, 5, D_IN, D_OUT)
    stack = Stack("m", (f, f), (1.0, -1.0))

    assert np.abs(merged(stack, method, rescale=True)).max() == 0.0


def test_options_say_what_they_take() -> None:
    """A ridge is a number from 0 to 1, and a rule one of two."""
    for method, option, value in (("actmat", "ridge", "-0.1"), ("pico", "rule", "ties")):
        with pytest.raises(Exception, match=f"option {option} takes"):
            METHODS[method].bind({option: value})
