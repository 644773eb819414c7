"""The elementwise methods as methods: weights, bases, sizes beyond the exact ones, options."""

from pathlib import Path

import numpy as np
import pytest
import torch

from merge.errors import RecipeInvalid
from merge.factors import Factors, Stack
from merge.methods import METHODS
from merge.methods.elementwise import TABLE
from merge.peft_format import open_folder
from merge.peft_io import read_peft
from tests.adapters import make_adapter
from tests.laws.laws import random_factors, update
from tests.merge.llama import load_in_peft, peft_updates
from tests.oracles import elementwise as oracle

BASES = ("dense", "knots", "core")


def some_stack(d_in: int = 40, d_out: int = 30) -> Stack:
    """Return three adapters of mixed ranks, scales and signs."""
    members = (random_factors(i, r, d_in, d_out, scale=0.5 + i) for i, r in enumerate((4, 2, 6)))
    return Stack("m", tuple(members), (1.0, -0.5, 0.3))


def merged(stack: Stack, method: str, **options: object) -> torch.Tensor:
    """Return the method's result as a dense update."""
    bound = METHODS[method].bind({"rank": 99} | options)
    del bound["scale"]
    return update(METHODS[method].function(stack, **bound).factors)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("method", TABLE)
def test_a_weight_multiplies_the_update_first(method: str, basis: str) -> None:
    """In every family, a member at weight -0.5 equals the member -0.5 · update at weight 1."""
    stack = some_stack()
    scaled = tuple(
        Factors(f.a, f.b * w, f.scale) for f, w in zip(stack.members, stack.weights, strict=True)
    )

    expected = merged(Stack("m", scaled, (1.0, 1.0, 1.0)), method, basis=basis)

    torch.testing.assert_close(merged(stack, method, basis=basis), expected, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della"])
@pytest.mark.parametrize("basis", BASES)
def test_seeds_and_modules_draw_apart(method: str, basis: str) -> None:
    """Another seed or another module gives another draw; equal ones give the same draw."""
    stack = some_stack()
    other = Stack("n", stack.members, stack.weights)
    first = merged(stack, method, basis=basis)

    assert torch.equal(first, merged(stack, method, basis=basis, seed=0))
    assert not torch.equal(first, merged(stack, method, basis=basis, seed=1))
    assert not torch.equal(first, merged(other, method, basis=basis))


@pytest.mark.parametrize(
    ("method", "options", "rule"),
    [
        ("ties", {"density": 0.2}, lambda x: oracle.ties(x, 0.2)),
        ("breadcrumbs", {}, lambda x: oracle.breadcrumbs(x, 0.15, 0.006)),
        ("sce", {}, lambda x: oracle.sce(x, 0.1)),
    ],
)
@pytest.mark.parametrize("rank", [4, 12])
def test_large_modules_keep_what_can_be_kept(
    method: str,
    options: dict[str, float],
    rule: oracle.Rule,
    rank: int,
) -> None:
    """Above the size limit of exact decomposition, the range finder keeps 99 % of the energy of the
    best approximation of the published matrix, and the report's energy is correct.
    """
    stack = some_stack(260, 200)
    exact = rule(oracle.updates(stack))
    values = np.linalg.svd(exact, compute_uv=False) ** 2

    bound = METHODS[method].bind({"rank": rank, **options})
    del bound["scale"]
    result = METHODS[method].function(stack, **bound)

    best = values[:rank].sum() / values.sum()
    error = np.linalg.norm(exact - update(result.factors).numpy()) ** 2 / values.sum()
    assert result.energy is not None
    assert 0.99 * best < result.energy <= best * (1 + 1e-6)
    assert result.energy == pytest.approx(1.0 - error, abs=1e-4)


@pytest.mark.parametrize("density", ["0", "1.5", "-0.1", "nan", "much"])
def test_a_density_outside_its_range_is_refused(density: str) -> None:
    """A density outside (0, 1] is refused, and the message states the range."""
    with pytest.raises(RecipeInvalid, match="density takes a number above 0 and at most 1"):
        METHODS["ties"].bind({"density": density})


def test_an_unknown_basis_is_refused() -> None:
    """An unknown basis is refused, and the message lists the bases."""
    with pytest.raises(RecipeInvalid, match="basis takes one of dense, knots, core"):
        METHODS["della"].bind({"basis": "thin"})


def test_windows_and_outliers_can_be_switched_off() -> None:
    """Without a window DELLA draws as DARE does; without outliers Breadcrumbs only trims."""
    one = Stack("m", (random_factors(0, 20, 30, 20),), (1.0,))
    both = {"rank": 99, "density": 0.4}

    torch.testing.assert_close(
        merged(one, "breadcrumbs", gamma=None, **both), merged(one, "magnitude_prune", **both)
    )
    kept = merged(one, "della", epsilon=None, **both) / update(one.members[0])
    levels = set(kept.round(decimals=3).abs().flatten().tolist())

    assert {0.0, 2.5} == levels


def test_merged_folders_agree_with_pefts_ties_svd(tmp_path: Path) -> None:
    """At equal weights, a folder merged with `ties` has the updates of PEFT's `ties_svd`."""
    paths = [
        make_adapter(tmp_path / "a", seed=1, rank=4, alpha=4.0),
        make_adapter(tmp_path / "b", seed=2, rank=3, alpha=9.0),
    ]
    model = load_in_peft(paths[0], "a")
    model.load_adapter(paths[1], "b")
    model.add_weighted_adapter(
        ["a", "b"], [1.0, 1.0], "sum", combination_type="ties_svd", svd_rank=5, density=0.25
    )
    folders = [open_folder(path) for path in paths]

    for name, expected in peft_updates(model, "sum").items():
        members = tuple(read_peft(folder, folder.modules[name]) for folder in folders)
        actual = merged(Stack(name, members, (1.0, 1.0)), "ties", rank=5, density=0.25)
        torch.testing.assert_close(actual, expected.to(actual), rtol=0.0, atol=1e-5)
