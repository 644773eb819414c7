"""Means, interpolations and controls against the dense float64 oracle, and PEFT's `linear`."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from merge.factors import Factors, Stack
from merge.methods.average import average
from merge.methods.average_factors import average_factors
from merge.methods.compress import compress
from merge.methods.karcher import karcher
from merge.methods.model_stock import model_stock
from merge.methods.random_factors import random_factors as random_method
from merge.methods.slerp import slerp
from merge.peft_format import open_folder
from merge.peft_io import read_peft
from merge.seeds import generator_for
from tests.adapters import make_adapter
from tests.laws.laws import random_factors
from tests.merge.llama import load_in_peft, peft_updates
from tests.oracles import means
from tests.oracles.dense import Array, dense

RANKS = [4, 9, 18]
SIGNED = [1.0, -0.5, 0.3]
POSITIVE = [1.0, 0.5, 0.3]


def related(weights: list[float], *, equal: bool = False) -> Stack:
    """Return adapters of mixed ranks, norms and scales with a shared part, so no angle is right."""
    shared = random_factors(99, 3, 40, 30, 2.0)
    members = []
    for i, weight in enumerate(weights):
        rank = 5 if equal else (5, 3, 7)[i]
        own = random_factors(i, rank, 40, 30, 1.0)
        towards = math.copysign(1.5 + i, weight)  # weighted updates lean the same way
        a = torch.cat([own.a, shared.a])
        members.append(Factors(a, torch.cat([own.b, towards * shared.b], dim=1), 0.5 + i))
    return Stack("m", tuple(members), tuple(weights))


def vectors(stack: Stack) -> Array:
    """Return weighted dense updates."""
    return means.weighted(list(stack.members), list(stack.weights))


def agrees(expected: Array, rank: int, result: Factors) -> None:
    """Check a result against the oracle's dense one, truncated to the same rank."""
    kept = means.truncated(expected.reshape(30, 40), rank)
    np.testing.assert_allclose(dense(result), kept, atol=2e-6 * float(np.abs(kept).max()) + 1e-12)


@pytest.mark.parametrize("rank", RANKS)
def test_average_is_the_dense_mean(rank: int) -> None:
    """`average` is Σ w ΔW / n, negative weights included."""
    stack = related(SIGNED)
    agrees(means.average(vectors(stack)), rank, average(stack, rank=rank).factors)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp_is_shoemakes(rank: int, t: float) -> None:
    """`slerp` follows the arc between the dense directions, at every t."""
    stack = related([1.0, -0.5])
    agrees(means.slerp(vectors(stack), t), rank, slerp(stack, rank=rank, t=t).factors)


@pytest.mark.parametrize("rank", RANKS)
def test_karcher_is_the_mean_on_the_sphere(rank: int) -> None:
    """`karcher` is Buss and Fillmore's fixed point on the dense directions."""
    stack = related(POSITIVE)
    unweighted = means.weighted(list(stack.members), [1.0] * 3)
    expected = means.karcher(unweighted, POSITIVE)
    agrees(expected, rank, karcher(stack, rank=rank).factors)


def test_karcher_of_right_angles_is_known() -> None:
    """For T orthogonal directions `karcher` is their sum over √T, in closed form."""
    members = []
    for i in range(5):
        a, b = torch.zeros(1, 8), torch.zeros(6, 1)
        a[0, i] = b[i, 0] = 2.0
        members.append(Factors(a, b))
    merged = karcher(Stack("m", tuple(members), (1.0,) * 5), rank=5).factors
    expected = np.zeros((6, 8))
    expected[range(5), range(5)] = 4.0 / math.sqrt(5)
    np.testing.assert_allclose(dense(merged), expected, atol=1e-6)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_karcher_of_two_is_slerp(t: float) -> None:
    """For two adapters at weights 1-t and t, `karcher` equals `slerp`."""
    stack = related([1.0, 1.0])
    mean = karcher(Stack("m", stack.members, (1 - t, t)), rank=18).factors
    arc = slerp(stack, rank=18, t=t).factors
    np.testing.assert_allclose(dense(mean), dense(arc), atol=1e-4)


@pytest.mark.parametrize("size", [1.0, 1.0 + 1e-7, 7.3])
def test_directions_that_cancel_give_nothing(size: float) -> None:
    """Opposite directions have no mean: `karcher` gives zero, also where rounding would select a
    direction, `slerp` passes through zero on a straight line, and both stay finite.
    """
    f = random_factors(3, 1, 1, 1)
    opposite = Factors(-size * f.a, f.b + 1e-7, f.scale)
    stack = Stack("m", (f, opposite), (1.0, 1.0))
    assert 0.0 == float(np.abs(dense(karcher(stack, rank=2).factors)).max())
    expected = (dense(f) + dense(opposite)) / 2
    np.testing.assert_allclose(dense(slerp(stack, rank=2).factors), expected, atol=1e-5)


@pytest.mark.parametrize("weights", [SIGNED, POSITIVE])
def test_model_stock_is_the_papers_ratio(weights: list[float]) -> None:
    """`model_stock` is t times the mean, with t from the dense cosines."""
    stack = related(weights)
    agrees(means.model_stock(vectors(stack)), 18, model_stock(stack, rank=18).factors)


def test_model_stock_of_opposites_is_the_base() -> None:
    """Where updates point in opposite directions, the ratio is 0 and the result is the base."""
    f = random_factors(0, 4)
    stack = Stack("m", (f, Factors(-f.a, f.b, f.scale)), (1.0, 0.5))
    assert 0.0 == float(np.abs(dense(model_stock(stack, rank=8).factors)).max())


@pytest.mark.parametrize("weight", [1.0, -2.0])
@pytest.mark.parametrize("rank", [1, 4, 8])
def test_compress_is_the_dense_svd(weight: float, rank: int) -> None:
    """`compress` is the truncated SVD of one update, and reports the energy that it keeps."""
    stack = related([weight])
    merged = compress(stack, rank=rank)
    agrees(vectors(stack)[0], rank, merged.factors)
    whole = vectors(stack)[0].reshape(30, 40)
    kept = np.linalg.norm(means.truncated(whole, rank)) ** 2 / np.linalg.norm(whole) ** 2
    assert merged.energy == pytest.approx(kept, rel=1e-5)


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("cap", [5, 50])
def test_energy_is_the_smallest_rank_that_keeps_it(energy: float, cap: int) -> None:
    """With `energy` a result has the oracle's smallest rank, at most `rank`."""
    three, two, one = related(POSITIVE), related([1.0, 1.0]), related([1.0])
    unweighted = means.weighted(list(three.members), [1.0] * 3)
    cases = [
        (means.average(vectors(three)), average(three, rank=cap, energy=energy)),
        (means.model_stock(vectors(three)), model_stock(three, rank=cap, energy=energy)),
        (means.karcher(unweighted, POSITIVE), karcher(three, rank=cap, energy=energy)),
        (means.slerp(vectors(two), 0.5), slerp(two, rank=cap, energy=energy)),
        (vectors(one)[0], compress(one, rank=cap, energy=energy)),
    ]
    for expected, merged in cases:
        # At exactly 1.0 the oracle's own rounding would decide, so use slightly less.
        wanted = means.rank_for(expected.reshape(30, 40), min(energy, 1 - 1e-9))
        assert min(wanted, cap) == merged.factors.rank
        agrees(expected, merged.factors.rank, merged.factors)


def test_average_factors_full_is_lorahub() -> None:
    """With split=full, A and B are summed separately, each with the whole weight."""
    stack = related(SIGNED, equal=True)
    expected = means.lorahub(list(stack.members), list(stack.weights))
    actual = dense(average_factors(stack, split="full").factors)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * float(np.abs(expected).max()))


def test_average_factors_sqrt_is_pefts_linear(tmp_path: Path) -> None:
    """With split=sqrt the result is PEFT's combination type `linear`, also for negative weights and
    mixed alphas, and far from the sum that its name suggests.
    """
    weights = [0.7, -0.5]
    paths = [
        make_adapter(tmp_path / "a", seed=1, alpha=4.0),
        make_adapter(tmp_path / "b", seed=2, alpha=12.0),
    ]
    model = load_in_peft(paths[0], "a")
    model.load_adapter(paths[1], "b")
    model.add_weighted_adapter(["a", "b"], weights, "both", combination_type="linear")
    folders = [open_folder(path) for path in paths]
    for name, expected in peft_updates(model, "both").items():
        members = [read_peft(folder, folder.modules[name]) for folder in folders]
        merged = average_factors(Stack(name, tuple(members), tuple(weights))).factors
        np.testing.assert_allclose(dense(merged), expected.numpy(), atol=1e-5)
        true_sum = means.weighted(members, weights).sum(0).reshape(expected.shape)
        assert np.linalg.norm(dense(merged) - true_sum) > 0.3 * np.linalg.norm(true_sum)


def test_random_is_noise_of_the_members_sizes() -> None:
    """`random` is the exact sum of members redrawn at their own deviations, in order of these."""
    stack = related(SIGNED)
    sizes = [(float(m.a.double().std(correction=0)), float(m.b.double().std(correction=0)))
             for m in stack.members]  # fmt: skip
    generator = generator_for(7, "m")
    expected = np.zeros((30, 40))
    for i in sorted(range(3), key=lambda i: sizes[i]):
        member, (std_a, std_b) = stack.members[i], sizes[i]
        a = torch.randn(member.a.shape, generator=generator).numpy() * std_a
        b = torch.randn(member.b.shape, generator=generator).numpy() * std_b
        expected += stack.weights[i] * member.scale * (b @ a)
    merged = random_method(stack, rank=50, seed=7).factors
    np.testing.assert_allclose(dense(merged), expected, atol=1e-4)


def test_random_keeps_the_size_and_nothing_else() -> None:
    """A redrawn adapter has about the norm of one with independent entries, and no direction of the
    original; another seed or module gives another draw.
    """
    f = random_factors(0, 16, 200, 160, 2.0)
    stack = Stack("m", (f,), (1.0,))
    noise = dense(random_method(stack, rank=16).factors)
    norms = np.linalg.norm(dense(f)), np.linalg.norm(noise)
    assert norms[1] == pytest.approx(norms[0], rel=0.05)
    others = [
        f,
        random_method(stack, rank=16, seed=1).factors,
        random_method(Stack("other", (f,), (1.0,)), rank=16).factors,
    ]
    for other in others:
        cosine = (noise * dense(other)).sum() / np.linalg.norm(noise) / np.linalg.norm(dense(other))
        assert abs(cosine) < 0.05
