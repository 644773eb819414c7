"""`cat` and `linear` against PEFT's own `add_weighted_adapter`, where PEFT is right."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merge.peft_format import digest_folder, open_folder
from merge.recipe import Member, plan
from merge.run import merge
from tests.adapters import BASE, make_adapter
from tests.merge.llama import load_in_peft, peft_updates

RANK = 5


def both(folder: Path) -> tuple[Any, list[Path]]:
    """Return a PEFT model with two adapters loaded, and their folders."""
    paths = [
        make_adapter(folder / "a", seed=1, rank=4, alpha=4.0),
        make_adapter(folder / "b", seed=2, rank=3, alpha=9.0),
    ]
    model = load_in_peft(paths[0], "a")
    model.load_adapter(paths[1], "b")
    return model, paths


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.7, -0.5), (-1.0, 0.25)])
@pytest.mark.parametrize(("ours", "theirs"), [("cat", "cat"), ("linear", "svd")])
def test_sum_equals_pefts(
    tmp_path: Path, ours: str, theirs: str, weights: tuple[float, float]
) -> None:
    """The exact sum and its truncation are PEFT's `cat` and `svd`, negative weights included."""
    model, paths = both(tmp_path)
    svd_rank = RANK if theirs == "svd" else None
    model.add_weighted_adapter(
        ["a", "b"], list(weights), "sum", combination_type=theirs, svd_rank=svd_rank
    )
    expected = peft_updates(model, "sum")
    digests = [digest_folder(path) for path in paths]
    members = [
        Member.from_folder(path.name, open_folder(path), weight, digest)
        for path, weight, digest in zip(paths, weights, digests, strict=True)
    ]
    options = {"rank": RANK} if ours == "linear" else {}
    recipe = plan(ours, members, options=options, base=BASE, dtype="float32", rank_limit=None)
    merge(recipe, dict(zip(digests, paths, strict=True)), tmp_path / "out")
    actual = peft_updates(load_in_peft(tmp_path / "out"))
    assert expected.keys() == actual.keys()
    for name, x in expected.items():
        torch.testing.assert_close(actual[name], x, rtol=1e-4, atol=1e-5)
