"""Reports: every figure equals the one computed on dense updates."""

import json

import pytest
import torch

from merge.factors import Factors
from merge.report import Report, add_up, measure
from tests.laws.laws import random_factors, update


def report() -> tuple[Report, dict[str, Factors], dict[str, dict[int, Factors]]]:
    """A report over two modules, of which the second lacks ingredient 1; and what it measured."""
    results = {"m": random_factors(0, 3), "n": random_factors(1, 5)}
    members = {
        "m": {0: random_factors(2, 4), 1: random_factors(3, 2)},
        "n": {0: random_factors(4, 4)},
    }
    measures = {
        "m": measure(results["m"], members["m"], 0.5),
        "n": measure(results["n"], members["n"], 0.9),
    }
    return (
        Report("linear", ("a" * 64, "b" * 64), measures, add_up(list(measures.values()), 2),
               {"read": 0.1, "merge": 0.2, "write": 0.3}),
        results,
        members,
    )  # fmt: skip


def cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the cosine of two dense updates."""
    return float((x * y).sum() / (x.norm() * y.norm()))


def test_module_figures_are_the_dense_ones() -> None:
    """Norm and cosines of a module are those of its dense updates; None for an absent member."""
    made, results, members = report()
    for name, result in results.items():
        assert made.modules[name].norm == pytest.approx(float(update(result).norm()))
        assert made.modules[name].rank == result.rank
        for i, f in members[name].items():
            expected = cosine(update(result), update(f))
            assert made.modules[name].cosine(i) == pytest.approx(expected)
    assert made.modules["n"].cosine(1) is None


def test_overall_figures_are_of_one_long_vector() -> None:
    """Overall norm and cosines take all modules as one vector, zero where an adapter has none."""
    made, results, members = report()
    whole = torch.cat([update(f).flatten() for f in results.values()])
    for i in range(2):
        parts = [
            update(members[name][i]) if i in members[name] else torch.zeros(18, 24)
            for name in results
        ]
        expected = cosine(whole, torch.cat([part.flatten() for part in parts]))
        assert made.overall.cosine(i) == pytest.approx(expected)
    assert made.overall.norm == pytest.approx(float(whole.norm()))
    assert made.overall.rank == 5


def test_overall_energy_weighs_modules_by_size() -> None:
    """Overall energy is Σ |result|² / Σ |exact|², not a mean of ratios."""
    made, results, _ = report()
    m, n = (float(update(results[name]).square().sum()) for name in "mn")
    assert made.overall.energy == pytest.approx((m + n) / (m / 0.5 + n / 0.9))


def test_zero_result_has_no_cosine() -> None:
    """A zero update has norm 0 and no direction, and JSON says null."""
    zero = Factors(torch.zeros(2, 24), torch.zeros(18, 2))
    measured = measure(zero, {0: random_factors(0, 2)}, 1.0)
    assert (measured.norm, measured.cosine(0)) == (0.0, None)
    made = Report("linear", ("a" * 64,), {"m": measured}, add_up([measured], 1), {})
    assert json.loads(made.to_json())["overall"]["cosines"] == [None]
    assert json.loads(made.to_json())["overall"]["energy"] == 1.0


def test_json_holds_every_figure() -> None:
    """The JSON names method, ingredients, modules, overall figures and seconds."""
    made, _, _ = report()
    document = json.loads(made.to_json())
    assert {"method", "ingredients", "overall", "modules", "seconds"} == document.keys()
    assert {"rank", "norm", "cosines", "energy"} == document["modules"]["m"].keys()
    assert document["seconds"] == {"read": 0.1, "merge": 0.2, "write": 0.3}


def test_summary_is_one_line() -> None:
    """People get one line: method, modules, rank, norm, cosines, energy, time."""
    line = report()[0].summary()
    assert "\n" not in line
    assert line.startswith("linear of 2: 2 modules, rank 5, norm ")
    assert "energy kept" in line
    assert "0.60 s" in line
