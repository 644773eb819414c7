"""The figures of a preview are those of the dense updates, and of the merge once it is built."""

from pathlib import Path

import pytest
import torch

from merge.errors import IncompatibleAdapters
from merge.peft_format import open_folder
from merge.peft_io import read_peft
from merge.preview import preview
from tests.adapters import MODULES, make_adapter
from tests.merge.merge_setup import MergeSetup, three_adapters


def dense(setup: MergeSetup) -> list[dict[str, torch.Tensor]]:
    """Return the dense float64 update of every module of every adapter."""
    folders = [open_folder(path) for path in setup.paths]
    return [
        {
            name: factors.scale * factors.b.double() @ factors.a.double()
            for name, factors in ((n, read_peft(folder, m)) for n, m in folder.modules.items())
        }
        for folder in folders
    ]


def test_energy_is_that_of_the_best_sums(tmp_path: Path) -> None:
    """The share at rank k is that of the k largest singular values of every module's dense sum."""
    setup = three_adapters(tmp_path)
    updates = dense(setup)
    spectra = []
    for name in MODULES:
        terms = [
            member.weight * update[name]
            for member, update in zip(setup.members, updates, strict=True)
            if name in update
        ]
        spectra.append(torch.linalg.svdvals(sum(terms, torch.zeros(()).double())).square())
    found = preview(setup.recipe("linear"), setup.folders).energy
    total = float(sum(squares.sum() for squares in spectra))
    expected = [float(sum(s[:k].sum() for s in spectra)) / total for k in range(1, len(found) + 1)]
    assert expected == pytest.approx(found, abs=1e-6)
    assert 12 == len(found)
    assert 1.0 == pytest.approx(found[-1])


@pytest.mark.parametrize("options", [{}, {"equalise": "norm"}])
def test_energy_is_what_linear_keeps(tmp_path: Path, options: dict[str, str]) -> None:
    """At the rank of a `linear` merge the share is what its report says, equalised or not."""
    setup = three_adapters(tmp_path)
    recipe = setup.recipe("linear", rank=3, **options)
    kept = setup.merge(recipe).overall.energy
    assert kept == pytest.approx(preview(recipe, setup.folders).energy[2], rel=1e-5)


def test_conflicts_are_those_of_the_dense_signs(tmp_path: Path) -> None:
    """Pairs have the share of entries with opposite signs over the modules that both have, and all
    together what the report says."""
    setup = three_adapters(tmp_path)
    updates = dense(setup)
    told = preview(setup.recipe("cat"), setup.folders)
    for i, one in enumerate(updates):
        for j, other in enumerate(updates):
            shared = one.keys() & other.keys()
            opposite = sum(float((one[name] * other[name] < 0).sum()) for name in shared)
            entries = sum(one[name].numel() for name in shared)
            assert opposite / entries == pytest.approx(told.conflicts[i][j], abs=1e-3)
    assert told.conflict == pytest.approx(setup.merge(setup.recipe("cat")).overall.conflict)
    assert told.modules == len(MODULES)


def test_without_a_common_module_there_is_no_conflict_to_tell(tmp_path: Path) -> None:
    """A pair without a common module has None, and so has a single ingredient."""
    names = list(MODULES.items())
    paths = [
        make_adapter(tmp_path / "a", seed=1, modules=dict(names[:1])),
        make_adapter(tmp_path / "b", seed=2, modules=dict(names[1:2])),
    ]
    apart = MergeSetup(tmp_path, paths, [1.0, 1.0])
    told = preview(apart.recipe("cat"), apart.folders)
    assert (None, 0.0) == (told.conflicts[0][1], told.conflicts[0][0])
    assert told.conflict is None


def test_corners_of_the_energy_are_shares(tmp_path: Path) -> None:
    """An update of zeros is kept whole, and weights too large to square give shares up to 1."""
    for size, weight in ((0.0, 1.0), (0.3, 1e200)):
        path = make_adapter(tmp_path / f"{weight}", rank=2, size=size)
        setup = MergeSetup(tmp_path, [path], [weight])
        told = preview(setup.recipe("cat"), setup.folders)
        assert 1.0 == pytest.approx(told.energy[-1])
        assert all(0.0 < share <= 1.0 for share in told.energy)


def test_a_broken_ingredient_is_named(tmp_path: Path) -> None:
    """An ingredient that holds NaN is refused, as the merge refuses it."""
    setup = three_adapters(tmp_path)
    broken = make_adapter(tmp_path / "broken", seed=4, size=float("nan"))
    again = MergeSetup(tmp_path, [*setup.paths[:1], broken], [1.0, 1.0])
    with pytest.raises(IncompatibleAdapters, match="NaN"):
        preview(again.recipe("cat"), again.folders)
