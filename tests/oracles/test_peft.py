"""Sums against PEFT's own `add_weighted_adapter`, including the cases where PEFT is wrong.

The reference is PEFT's own update of each adapter alone. PEFT 0.21.2.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.adapters import make_adapter
from tests.merge.llama import load_in_peft, peft_updates
from tests.merge.merge_setup import MergeSetup

RANK = 5
NAMES = ["a", "b"]


def two(folder: Path, **options: Any) -> list[Path]:
    """Write two adapters of different ranks and alphas."""
    return [
        make_adapter(folder / "a", seed=1, rank=4, alpha=4.0, **options),
        make_adapter(folder / "b", seed=2, rank=3, alpha=9.0, **options),
    ]


def loaded(paths: list[Path]) -> Any:
    """Return a PEFT model that has both adapters."""
    model = load_in_peft(paths[0], "a")
    for name, path in zip(NAMES[1 : len(paths)], paths[1:], strict=True):
        model.load_adapter(path, name)
    return model


def theirs(model: Any, weights: tuple[float, ...], kind: str, **options: Any) -> dict[str, Tensor]:
    """Return the updates of PEFT's merge, as PEFT computes them."""
    names = NAMES[: len(weights)]
    model.add_weighted_adapter(names, list(weights), "sum", combination_type=kind, **options)
    return peft_updates(model, "sum")


def ours(
    paths: list[Path], weights: tuple[float, ...], method: str, **options: Any
) -> dict[str, Tensor]:
    """Return the updates of weft's merge, as PEFT computes them."""
    merge_setup = MergeSetup(paths[0].parent, paths, list(weights))
    merge_setup.merge(merge_setup.recipe(method, **options))
    return peft_updates(load_in_peft(merge_setup.root / "out"))


def exact(model: Any, weights: tuple[float, ...]) -> dict[str, Tensor]:
    """Return Σ weight · update from PEFT's updates."""
    parts = [peft_updates(model, name) for name in NAMES[: len(weights)]]
    return {
        name: sum((w * x[name] for w, x in zip(weights, parts, strict=True)), torch.tensor(0.0))
        for name in parts[0]
    }


def check_equal(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> None:
    """Assert that both have the same modules and updates."""
    assert expected.keys() == actual.keys()
    for name, x in expected.items():
        torch.testing.assert_close(actual[name], x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, -0.5), (-1.0, 0.25)])
@pytest.mark.parametrize(("method", "kind"), [("cat", "cat"), ("linear", "svd")])
def test_sum_equals_pefts(
    tmp_path: Path, method: str, kind: str, weights: tuple[float, float]
) -> None:
    """The exact sum and its truncation are PEFT's `cat` and `svd`, negative weights included."""
    paths = two(tmp_path)
    expected = theirs(loaded(paths), weights, kind, svd_rank=RANK if kind == "svd" else None)
    options = {"rank": RANK} if method == "linear" else {}
    check_equal(expected, ours(paths, weights, method, **options))


def test_singular_values_equal_pefts(tmp_path: Path) -> None:
    """`linear` has the singular values of PEFT's dense `svd` to 1e-5."""
    paths = two(tmp_path)
    expected = theirs(loaded(paths), (0.7, -0.5), "svd", svd_rank=RANK)
    actual = ours(paths, (0.7, -0.5), "linear", rank=RANK)
    for name, x in expected.items():
        sigma = torch.linalg.svdvals(x)[:RANK]
        found = torch.linalg.svdvals(actual[name])[:RANK]
        torch.testing.assert_close(found, sigma, rtol=1e-5, atol=1e-6)


def test_peft_multiplies_rslora_by_the_root_of_the_rank(tmp_path: Path) -> None:
    """PEFT's merge of one rsLoRA adapter at weight 1 is that adapter times √(new rank): PEFT folds
    the scale into the factors, sets alpha to the rank, and keeps rsLoRA, which then scales by √r.
    Weft's merge has rsLoRA off and rank = alpha, and equals the adapter.
    """
    paths = [make_adapter(tmp_path / "a", seed=1, rank=4, alpha=6.0, use_rslora=True)]
    model = loaded(paths)
    truth = peft_updates(model, "a")
    check_equal(
        {name: math.sqrt(4) * x for name, x in truth.items()}, theirs(model, (1.0,), "linear")
    )
    check_equal(truth, ours(paths, (1.0,), "cat"))
    merge_setup = MergeSetup(tmp_path / "again", paths, [1.0])
    merge_setup.merge(merge_setup.recipe("linear", rank=4))
    check_equal(truth, peft_updates(load_in_peft(merge_setup.root / "out")))


@pytest.mark.parametrize("kind", ["cat", "svd"])
def test_peft_scales_a_mixed_merge_by_its_first_adapter(tmp_path: Path, kind: str) -> None:
    """Sums have the same fault: with an rsLoRA adapter first, PEFT's sum is √r too large; with it
    second, the sum is right. Weft's merge is the sum in both orders.
    """
    plain = make_adapter(tmp_path / "plain", seed=1, rank=4, alpha=4.0)
    stable = make_adapter(tmp_path / "stable", seed=2, rank=4, alpha=6.0, use_rslora=True)
    for paths, factor in (([stable, plain], math.sqrt(8)), ([plain, stable], 1.0)):
        model = loaded(paths)
        truth = exact(model, (0.5, 0.5))
        options = {"svd_rank": 8} if kind == "svd" else {}
        wrong = {name: factor * x for name, x in truth.items()}
        check_equal(wrong, theirs(model, (0.5, 0.5), kind, **options))
        merge_setup = MergeSetup(tmp_path / f"{factor}", paths, [0.5, 0.5])
        merge_setup.merge(merge_setup.recipe("cat"))
        check_equal(truth, peft_updates(load_in_peft(merge_setup.root / "out")))


def test_peft_linear_is_not_the_sum(tmp_path: Path) -> None:
    """PEFT's `linear` sums A and B separately, so it has cross terms as large as the sum itself."""
    paths = [make_adapter(tmp_path / name, seed=seed) for seed, name in enumerate(NAMES)]
    model = loaded(paths)
    truth, wrong = exact(model, (0.5, 0.5)), theirs(model, (0.5, 0.5), "linear")
    for name, x in truth.items():
        assert float((wrong[name] - x).norm()) > 0.5 * float(x.norm())
    check_equal(truth, ours(paths, (0.5, 0.5), "linear"))
