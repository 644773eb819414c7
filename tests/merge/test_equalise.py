"""`equalise=norm`: every ingredient counts by its weight, however large its update is."""

from pathlib import Path

import pytest
import torch

from merge.equalise import equalising
from merge.errors import RecipeInvalid
from merge.methods import METHODS
from tests.adapters import make_adapter
from tests.merge.llama import load_in_peft, peft_updates
from tests.merge.merge_setup import MergeSetup, three_adapters

RELATIVE = {"karcher", "lego"}


def updates(path: Path) -> torch.Tensor:
    """Return an adapter's update in PEFT as one vector, float64."""
    return torch.cat([x.flatten() for _, x in sorted(peft_updates(load_in_peft(path)).items())])


@pytest.mark.parametrize("method", ["cat", "linear", "average"])
def test_ingredients_of_unequal_norm_count_equally(tmp_path: Path, method: str) -> None:
    """A sum of equalised updates is Σ weight · (mean norm / norm) · update."""
    paths = [make_adapter(tmp_path / f"{i}", seed=i, size=0.1 * 4**i) for i in range(3)]
    setup = MergeSetup(tmp_path, paths, [1.0, -0.5, 0.25])
    setup.merge(setup.recipe(method, equalise="norm"))
    vectors = [updates(path) for path in paths]
    norms = [float(x.norm()) for x in vectors]
    assert norms[2] > 10 * norms[0]
    mean = sum(norms) / 3
    share = 1 / 3 if method == "average" else 1.0
    expected = share * sum(
        member.weight * mean / norm * x
        for member, norm, x in zip(setup.members, norms, vectors, strict=True)
    )  # fmt: skip
    merged = updates(tmp_path / "out")
    assert float((merged - expected).norm()) < 1e-5 * mean


def test_a_single_ingredient_stays_as_it_is(tmp_path: Path) -> None:
    """Equalising one ingredient changes no byte."""
    setup = MergeSetup(tmp_path, [make_adapter(tmp_path / "a", seed=1)], [1.0])
    files = []
    for options in ({}, {"equalise": "norm"}):
        setup.merge(setup.recipe("cat", **options))
        files.append((tmp_path / "out" / "adapter_model.safetensors").read_bytes())
        for file in (tmp_path / "out").iterdir():
            file.unlink()
    assert files[0] == files[1]


def test_an_empty_update_does_not_count() -> None:
    """The mean is over updates that are not zero, and a zero update stays zero."""
    factors = equalising({0: 0.0, 1: 1.0, 2: 3.0, 3: float("nan"), 4: float("inf")})
    assert {1: 2.0, 2: 2 / 3} == factors
    assert {} == equalising({0: 0.0})


def test_other_recipes_keep_their_digests(tmp_path: Path) -> None:
    """Without the option, or with none, a recipe's text does not mention it."""
    setup = three_adapters(tmp_path)
    plain = setup.recipe("linear")
    assert "equalise" not in plain.canonical()
    assert plain == setup.recipe("linear", equalise=None) == setup.recipe("linear", equalise="none")
    assert plain.digest() != setup.recipe("linear", equalise="norm").digest()


def test_every_method_has_it_whose_weights_multiply_updates() -> None:
    """Methods with relative weights do not have the option, all others do."""
    assert RELATIVE == {name for name, m in METHODS.items() if "equalise" not in m.parameters}
    with pytest.raises(RecipeInvalid, match="lego has no option 'equalise'"):
        METHODS["lego"].bind({"equalise": "norm"})
    with pytest.raises(RecipeInvalid, match="equalise takes norm, or none, not 'max'"):
        METHODS["cat"].bind({"equalise": "max"})


def test_the_report_keeps_the_ingredients_own_norms(tmp_path: Path) -> None:
    """The report's cosines are those to the ingredients as they are."""
    setup = three_adapters(tmp_path)
    report = setup.merge(setup.recipe("cat", equalise="norm"))
    overall = report.overall
    for position, path in enumerate(setup.paths):
        assert float(updates(path).norm()) == pytest.approx(
            overall.ingredient_norm(position), rel=1e-3
        )
