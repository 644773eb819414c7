"""Running a recipe with options over the whole adapter: weights by pattern, norm, ranks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from merge.errors import UnsafeResult
from merge.peft_format import digest_folder, open_folder
from merge.peft_io import read_peft
from merge.recipe import Member
from merge.run import merge
from tests.adapters import MODULES, make_adapter
from tests.laws.laws import update
from tests.merge.llama import load_in_peft
from tests.merge.merge_setup import MergeSetup, exact_sum


def patterned(merge_setup: MergeSetup, *patterns: tuple[tuple[str, float], ...]) -> list[Member]:
    """Return the setup's members at weight 1 with these patterns; other members have none."""
    return [
        replace(member, weight=1.0, patterns=patterns[i] if i < len(patterns) else ())
        for i, member in enumerate(merge_setup.members)
    ]


def test_weights_by_pattern_count_in_their_modules(merge_setup: MergeSetup) -> None:
    """A pattern's weight replaces an ingredient's weight only in the modules that it matches; 0
    leaves the ingredient out there, also for the rank.
    """
    mlp, first = "*.mlp.*", "model.layers.0.*"
    merge_setup.members = patterned(merge_setup, ((mlp, 0.0),), ((first, -2.0),))
    merge(merge_setup.recipe("cat"), merge_setup.folders, merge_setup.root / "out")
    opened = [open_folder(path) for path in merge_setup.paths]
    out = open_folder(merge_setup.root / "out")
    for name, module in out.modules.items():
        parts = [
            (0.0 if ".mlp." in name else 1.0, opened[0]),
            (-2.0 if ".0." in name else 1.0, opened[1]),
            (1.0, opened[2]),
        ]
        counted = [(w, f.modules[name], f) for w, f in parts if w != 0.0 and name in f.modules]
        expected = sum(w * update(read_peft(f, m)) for w, m, f in counted)
        assert sum(m.rank for _, m, _ in counted) == module.rank
        torch.testing.assert_close(update(read_peft(out, module)), expected, rtol=1e-4, atol=1e-5)


def test_module_without_weight_is_left_out(merge_setup: MergeSetup) -> None:
    """A module where every ingredient has weight 0 is neither in the result nor in the report."""
    merge_setup.members = patterned(merge_setup, *[(("*.mlp.*", 0.0),)] * 3)
    report = merge(merge_setup.recipe("linear"), merge_setup.folders, merge_setup.root / "out")
    expected = {name for name in MODULES if ".mlp." not in name}
    assert expected == open_folder(merge_setup.root / "out").modules.keys() == report.modules.keys()


def test_ingredient_at_zero_may_count_by_pattern(merge_setup: MergeSetup) -> None:
    """An ingredient at weight 0 with a pattern counts only in the modules that match it."""
    merge_setup.members = [
        replace(merge_setup.members[0], weight=0.0, patterns=(("*.down_proj", 2.0),)),
        *(replace(member, weight=0.0) for member in merge_setup.members[1:]),
    ]
    merge(merge_setup.recipe("cat"), merge_setup.folders, merge_setup.root / "out")
    assert {"model.layers.1.mlp.down_proj"} == open_folder(merge_setup.root / "out").modules.keys()


@pytest.mark.parametrize("method", ["cat", "linear", "lego"])
def test_match_gives_the_ingredients_mean_norm(merge_setup: MergeSetup, method: str) -> None:
    """`scale=match` applies one factor to all modules, and the result has the mean norm; the report
    gives the factor, which gives the same adapter if passed as a number.
    """
    plain = merge(merge_setup.recipe(method), merge_setup.folders, merge_setup.root / "plain")
    recipe = merge_setup.recipe(method, scale="match")
    report = merge(recipe, merge_setup.folders, merge_setup.root / "out", workers=2)
    norms = []
    for path in merge_setup.paths:
        folder = open_folder(path)
        squares = [update(read_peft(folder, m)).square().sum() for m in folder.modules.values()]
        norms.append(float(torch.stack(squares).sum().sqrt()))
    assert report.overall.norm == pytest.approx(sum(norms) / 3, rel=1e-5)
    assert report.scale == pytest.approx(report.overall.norm / plain.overall.norm, rel=1e-6)
    assert report.overall.cosine(0) == pytest.approx(plain.overall.cosine(0))
    again = merge_setup.recipe(method, scale=report.scale)
    merge(again, merge_setup.folders, merge_setup.root / "again")
    assert digest_folder(merge_setup.root / "out") == digest_folder(merge_setup.root / "again")
    assert "recipe.json" in {path.name for path in (merge_setup.root / "out").iterdir()}


def test_match_of_nothing_and_of_what_cancels(tmp_path: Path) -> None:
    """Ingredients that are all zero match unchanged; ingredients that cancel cannot be matched."""
    zero = make_adapter(tmp_path / "zero", size=0.0)
    alone = MergeSetup(tmp_path, [zero], [1.0])
    report = merge(alone.recipe("linear", scale="match"), alone.folders, tmp_path / "out")
    assert (1.0, 0.0) == (report.scale, report.overall.norm)
    root = tmp_path / "pair"
    twins = [make_adapter(root / "a", alpha=8.0), make_adapter(root / "b", alpha=16.0)]
    pair = MergeSetup(root, twins, [1.0, -0.5])
    with pytest.raises(UnsafeResult, match="scale=match: the ingredients cancel out"):
        merge(pair.recipe("linear", scale="match"), pair.folders, root / "out")
    assert [] == pair.left()


def test_energy_gives_each_module_its_own_rank(merge_setup: MergeSetup) -> None:
    """With `energy`, each module has the smallest rank that keeps this share, given in the file."""
    recipe = merge_setup.recipe("linear", energy=0.9)
    report = merge(recipe, merge_setup.folders, merge_setup.root / "out", workers=2)
    out = open_folder(merge_setup.root / "out")
    for name, x in exact_sum(merge_setup).items():
        sigma = torch.linalg.svdvals(x)
        shares = (sigma**2).cumsum(0) / (sigma**2).sum()
        expected = int((shares < 0.9).sum()) + 1
        assert expected == out.modules[name].rank == report.modules[name].rank
        assert report.modules[name].energy == pytest.approx(float(shares[expected - 1]), rel=1e-5)
    assert 1 < len({module.rank for module in out.modules.values()})
    load_in_peft(merge_setup.root / "out")


def test_energy_and_match_together(merge_setup: MergeSetup) -> None:
    """One merge can choose ranks by energy and match the norm."""
    recipe = merge_setup.recipe("linear", energy=0.5, scale="match")
    report = merge(recipe, merge_setup.folders, merge_setup.root / "out")
    opened = open_folder(merge_setup.root / "out")
    squares = [update(read_peft(opened, m)).square().sum() for m in opened.modules.values()]
    assert report.overall.norm == pytest.approx(float(torch.stack(squares).sum().sqrt()), rel=1e-5)
