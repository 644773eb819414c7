"""The measured figures of a merge equal those of its dense updates."""

import json
import math

import pytest
import torch

from merge.factors import Factors, Members, Merged, Mix, Stack
from merge.linalg import truncated_sum
from merge.measure import add_up, measure, sign_conflict
from merge.report import Report
from tests.laws.laws import random_factors, update

CLOSE = 1e-5  # of float32 products


def stacks() -> dict[str, Stack]:
    """Return two modules, of which the second lacks ingredient 1."""
    return {
        "m": Stack("m", (random_factors(2, 4), random_factors(3, 2)), (1.0, -1.0)),
        "n": Stack("n", (random_factors(4, 4),), (0.5,)),
    }


def report() -> tuple[Report, dict[str, Factors]]:
    """Return a report over both modules, and the results that it describes."""
    results = {"m": random_factors(0, 3, scale=1.0), "n": random_factors(1, 5, scale=1.0)}
    energies = {"m": 0.5, "n": 0.9}
    measures = {
        name: measure(stack, Merged(results[name], energies[name]), range(len(stack.members)))
        for name, stack in stacks().items()
    }
    made = Report(
        method="linear", ingredients=("a" * 64, "b" * 64), modules=measures,
        overall=add_up(list(measures.values())), scale=1.0,
        seconds={"read": 0.1, "merge": 0.2, "measure": 0.05, "write": 0.3},
    )  # fmt: skip
    return made, results


def cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the cosine of two dense updates."""
    return float((x * y).sum() / (x.norm() * y.norm()))


def test_module_figures_are_the_dense_ones() -> None:
    """A module's norm and cosines are those of its dense updates; an absent member has None."""
    made, results = report()
    for name, stack in stacks().items():
        result = update(results[name])
        assert made.modules[name].norm == pytest.approx(float(result.norm()), rel=CLOSE)
        assert (results[name].rank, 24 * 18) == (
            made.modules[name].rank, made.modules[name].entries,
        )  # fmt: skip
        for i, f in enumerate(stack.members):
            assert made.modules[name].cosine(i) == pytest.approx(
                cosine(result, update(f)), abs=CLOSE
            )
            assert made.modules[name].ingredient_norm(i) == pytest.approx(
                float(update(f).norm()), rel=CLOSE
            )
    assert made.modules["n"].cosine(1) is None


def test_a_mixed_result_measures_like_any_other() -> None:
    """Measuring with the mix gives the same figures as measuring without it."""
    stack = stacks()["m"]
    mixed = truncated_sum(stack.members, stack.weights, 4)
    assert mixed.mix is not None
    quick = measure(stack, mixed, [0, 1])
    plain = measure(stack, Merged(mixed.factors, mixed.energy), [0, 1])
    assert quick.square == pytest.approx(plain.square, rel=CLOSE)
    assert quick.dots == pytest.approx(plain.dots, rel=CLOSE, abs=CLOSE)
    assert quick.squares == plain.squares


def test_a_mix_of_other_members_is_not_believed() -> None:
    """The figures are correct even if the mix refers to members that the method has changed."""
    stack = stacks()["m"]
    turned = Members(Factors(-f.a, f.b, f.scale) for f in stack.members)
    other = truncated_sum(turned, stack.weights, 6)
    assert isinstance(other.mix, Mix)
    measured = measure(stack, other, [0, 1])
    expected = cosine(update(other.factors), update(stack.members[0]))
    assert measured.cosine(0) == pytest.approx(expected, abs=CLOSE)


def test_overall_figures_are_of_one_long_vector() -> None:
    """Overall figures treat all modules as one vector; absent modules count as zeros."""
    made, results = report()
    whole = torch.cat([update(f).flatten() for f in results.values()])
    for i in range(2):
        parts = [
            update(stack.members[i]) if i < len(stack.members) else torch.zeros(18, 24)
            for stack in stacks().values()
        ]
        expected = cosine(whole, torch.cat([part.flatten() for part in parts]))
        assert made.overall.cosine(i) == pytest.approx(expected, abs=CLOSE)
    assert made.overall.norm == pytest.approx(float(whole.norm()), rel=CLOSE)
    assert made.overall.rank == 5


def test_overall_energy_weighs_modules_by_size() -> None:
    """Overall energy is Σ |result|² / Σ |exact|², not a mean of ratios."""
    made, results = report()
    m, n = (float(update(results[name]).square().sum()) for name in "mn")
    assert made.overall.energy == pytest.approx((m + n) / (m / 0.5 + n / 0.9), rel=CLOSE)


def test_scaling_a_measure_scales_what_is_the_results() -> None:
    """A factor scales the norm, and its sign the cosines; the ingredients' figures stay."""
    measured = report()[0].modules["m"]
    scaled = measured.scaled(-2.0)
    assert scaled.norm == pytest.approx(2 * measured.norm)
    assert scaled.cosine(0) == pytest.approx(-(measured.cosine(0) or 0.0))
    assert scaled.squares == measured.squares


def test_sign_conflict_is_the_dense_share() -> None:
    """In a module small enough to examine in full, the sign conflict is the exact share."""
    stack = stacks()["m"]
    first, second = (update(f) for f in stack.members)
    expected = float((first * second < 0).double().mean())
    assert sign_conflict(stack) == pytest.approx(expected)
    assert sign_conflict(stacks()["n"]) is None


def test_sign_conflict_knows_agreement_and_opposition() -> None:
    """Copies have no sign conflict, opposites have full conflict, and zeros do not count."""
    f = random_factors(0, 3, 700, 90)
    zero = Factors(torch.zeros(1, 700), torch.zeros(90, 1))
    assert 0.0 == sign_conflict(Stack("m", (f, f, zero), (1.0, 1.0, 1.0)))
    assert 1.0 == sign_conflict(Stack("m", (f, Factors(f.a, f.b, -1.0)), (1.0, 1.0)))


def test_sign_conflict_is_close_where_it_is_estimated() -> None:
    """In a wide module the estimate is reproducible and within a few percent of the exact share."""
    members = tuple(random_factors(seed, 4, 1500, 1200) for seed in range(3))
    stack = Stack("model.layers.0.mlp.up_proj", members, (1.0,) * 3)
    dense = torch.stack([update(f) for f in members])
    exact = float(((dense > 0).any(0) & (dense < 0).any(0)).double().mean())
    assert sign_conflict(stack) == pytest.approx(exact, abs=0.03)
    assert sign_conflict(stack) == sign_conflict(Stack(stack.module, members, (2.0, -1.0, 1.0)))


def test_overall_conflict_weighs_modules_by_entries() -> None:
    """Overall conflict is over all positions of the modules where a conflict is possible."""
    f = random_factors(0, 2, 30, 20)
    apart = Stack("m", (f, Factors(f.a, -f.b, f.scale)), (1.0, 1.0))
    g = random_factors(0, 2, 10, 20)
    agreeing = Stack("n", (g, g), (1.0, 1.0))
    alone = Stack("o", (g,), (1.0,))
    measures = [
        measure(s, Merged(s.members[0]), range(len(s.members))) for s in (apart, agreeing, alone)
    ]
    assert add_up(measures).conflict == pytest.approx(600 / 800)
    assert add_up(measures[2:]).conflict is None


def test_zero_result_has_no_cosine() -> None:
    """A zero update has norm 0 and no cosine; the JSON value is null."""
    zero = Factors(torch.zeros(2, 24), torch.zeros(18, 2))
    stack = Stack("m", (random_factors(0, 2),), (1.0,))
    measured = measure(stack, Merged(zero, 1.0), [0])
    assert (measured.norm, measured.cosine(0)) == (0.0, None)
    made = Report("linear", ("a" * 64,), {"m": measured}, add_up([measured]), 1.0, {})
    assert json.loads(made.to_json())["overall"]["cosines"] == [None]
    assert json.loads(made.to_json())["overall"]["energy"] == 1.0


def test_huge_factors_are_measured() -> None:
    """Entries whose squares overflow float32 still have a finite norm."""
    f = random_factors(0, 2)
    stack = Stack("m", (Factors(f.a * 1e25, f.b * 1e-22, f.scale),), (1.0,))
    measured = measure(stack, Merged(stack.members[0].folded()), [0])
    assert math.isfinite(measured.norm)
    assert measured.cosine(0) == pytest.approx(1.0, rel=1e-4)
