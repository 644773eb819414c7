"""Folding coefficients into recipes and adapters: exact within the rank limit, else truncated."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from merge.adaptive.context import AdapterRef, Target
from merge.adaptive.methods.fold import fold_gates, fold_table, fold_weights
from merge.adaptive.model.coefficients import Gated
from merge.adaptive.model.hooks import attached
from merge.adaptive.model.stacked import read_modules
from merge.adaptive.options import Design
from merge.errors import RecipeInvalid
from merge.peft_format import digest_folder, open_folder
from merge.recipe import Recipe
from merge.run import merge
from tests.adapters import BASE, make_adapter
from tests.merge.adaptive.small import dense, gated
from tests.merge.llama import load_in_peft, logits, tiny_llama

WIDE = Target(BASE, "float32", 64)
FEW = {"model.layers.0.mlp.gate_proj": (16, 24), "model.layers.1.mlp.down_proj": (24, 16)}


@pytest.fixture
def adapters(tmp_path: Path) -> list[AdapterRef]:
    """Three adapters of mixed ranks, scales and module sets."""
    paths = [
        make_adapter(tmp_path / "a", seed=1, rank=4),
        make_adapter(tmp_path / "b", seed=2, rank=2, alpha=3.0, modules=FEW),
        make_adapter(tmp_path / "c", seed=3, rank=6, use_rslora=True),
    ]
    return [AdapterRef(path.name, digest_folder(path), open_folder(path)) for path in paths]


def learned(adapters: list[AdapterRef], design: Design) -> Gated:
    """Return gated adapters with random coefficients."""
    updates = gated([read_modules(each.folder) for each in adapters], design)
    updates.prepare()
    return updates


def merged(adapters: list[AdapterRef], recipe: Recipe, out: Path) -> dict[str, Tensor]:
    """Merge a recipe and return its updates by module, (d_out, d_in) float64."""
    merge(recipe, {each.digest: each.folder.path for each in adapters}, out)
    return {name: dense(f) for name, f in read_modules(open_folder(out)).items()}


def unfolded(updates: Gated) -> Tensor:
    """Return the tiny Llama's logits with the gated adapters attached."""
    model = tiny_llama()
    with attached(model, updates):
        return logits(model)


@pytest.mark.parametrize("granularity", ["adapter", "layer", "sublayer", "module"])
def test_a_fold_answers_as_what_was_learned(
    granularity: str, adapters: list[AdapterRef], tmp_path: Path
) -> None:
    """Within the rank limit the recipe is `cat`, and PEFT with the merged files gives the logits
    of the gated adapters."""
    updates = learned(adapters, Design(granularity=granularity, initial="normal", seed=4))  # type: ignore[arg-type]
    recipe = fold_table(adapters, updates.coefficients.table(), WIDE)
    merged(adapters, recipe, tmp_path / "out")

    assert "cat" == recipe.method
    torch.testing.assert_close(
        logits(load_in_peft(tmp_path / "out")), unfolded(updates), rtol=1e-4, atol=1e-5
    )


def test_a_fold_above_the_engines_rank_is_truncated(
    adapters: list[AdapterRef], tmp_path: Path
) -> None:
    """`linear` truncates a fold above the rank limit, and the report states the kept energy."""
    updates = learned(adapters, Design(initial="normal", seed=4))
    table = updates.coefficients.table()
    recipe = fold_table(adapters, table, Target(BASE, "float32", 8))
    report = merge(recipe, {h.digest: h.folder.path for h in adapters}, tmp_path / "out")

    assert ("linear", 8) == (recipe.method, dict(recipe.options)["rank"])
    assert 8 == report.overall.rank
    assert report.overall.energy is not None
    assert 0.5 < report.overall.energy < 1.0


def test_a_member_left_out_everywhere_takes_no_rank(adapters: list[AdapterRef]) -> None:
    """A member whose coefficients are all exactly 0 adds neither rank nor weight to the merge."""
    table = dict.fromkeys(adapters[0].folder.modules, (1.0, 0.0, 0.0))
    recipe = fold_table(adapters, table, Target(BASE, "float32", 4))

    assert "cat" == recipe.method


def test_nothing_learned_is_no_recipe(adapters: list[AdapterRef]) -> None:
    """A table of zeros is refused, because the merge would equal the base."""
    with pytest.raises(RecipeInvalid, match="every weight is 0"):
        fold_table(adapters, dict.fromkeys(adapters[0].folder.modules, (0.0, 0.0, 0.0)), WIDE)


def test_one_coefficient_for_all_modules_needs_no_patterns(adapters: list[AdapterRef]) -> None:
    """A member with one coefficient for all modules has one weight and no patterns."""
    recipe = fold_table(adapters, dict.fromkeys(adapters[0].folder.modules, (0.5, -1.0, 2.0)), WIDE)

    assert [(0.5, ()), (-1.0, ()), (2.0, ())] == [
        (i.weight, i.patterns) for i in recipe.ingredients
    ]


def test_a_fold_survives_its_text(adapters: list[AdapterRef]) -> None:
    """A recipe with a weight per module parses back from its canonical text."""
    updates = learned(adapters, Design(initial="normal", seed=4))
    recipe = fold_table(adapters, updates.coefficients.table(), WIDE)

    assert recipe == Recipe.parse(recipe.canonical())


def test_weights_make_any_methods_recipe(adapters: list[AdapterRef]) -> None:
    """One weight per member gives a recipe of any static method."""
    recipe = fold_weights(adapters, [1.0, 1.0, 1.0], WIDE, method="lego", options={"rank": 5})

    assert ("lego", 5) == (recipe.method, dict(recipe.options)["rank"])


def test_gates_of_single_ranks_fold_into_factors(adapters: list[AdapterRef]) -> None:
    """Gates per rank, which no recipe can express, fold into factors: exact within the limit."""
    updates = learned(adapters, Design(granularity="rank", initial="normal", seed=4))
    factors, energy = fold_gates(updates.gated(), 64)

    assert energy is None
    model = tiny_llama()
    for name, each in factors.items():
        weight = model.get_submodule(name).weight
        with torch.no_grad():
            weight += dense(each).float()
    torch.testing.assert_close(logits(model), unfolded(updates), rtol=1e-4, atol=1e-5)


def test_gates_above_the_limit_are_truncated_as_well_as_can_be(adapters: list[AdapterRef]) -> None:
    """Each truncated module is its best approximation of that rank, and the energy is what it
    keeps."""
    updates = learned(adapters, Design(granularity="rank", initial="normal", seed=4))
    whole, _ = fold_gates(updates.gated(), 64)
    factors, energy = fold_gates(updates.gated(), 3)

    kept = total = 0.0
    for name, exact in whole.items():
        values = torch.linalg.svdvals(dense(exact)).square()
        kept, total = kept + float(values[:3].sum()), total + float(values.sum())
        best = float(values[3:].sum())
        assert float((dense(factors[name]) - dense(exact)).square().sum()) == pytest.approx(
            best, rel=1e-3, abs=1e-6
        )
    assert energy == pytest.approx(kept / total, rel=1e-4)
