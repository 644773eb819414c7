"""Estimates of a merge are above what is measured, and limits refuse by them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from merge.errors import LimitExceeded
from merge.limits import Limits
from merge.methods import METHODS
from merge.recipe import Member, ModuleShape, Recipe, plan

_ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_estimate_bounds_the_measured_peak() -> None:
    """For every method at two shapes the peak of a merge of near-copies, which take its largest
    way, is below the estimate, and not below a tenth of it.
    """
    output = subprocess.run(
        [sys.executable, "-m", "tests.merge.peaks"], cwd=_ROOT, capture_output=True, text=True,
        check=True, env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    ).stdout  # fmt: skip
    rows = json.loads(output)
    assert {name for name, *_ in rows} == set(METHODS)
    wrong = [row for row in rows if not row[3] <= row[2] <= 12 * row[3]]
    assert [] == wrong


def planned(
    count: int, rank: int, limits: Limits, *, method: str = "cat", weight: float = 1.0,
    width: int = 64, **options: object,
) -> Recipe:  # fmt: skip
    """Plan a merge of `count` adapters of one module."""
    modules = {"q": ModuleShape(rank, width, width, "linear")}
    members = [Member(f"a{i}", f"{i:064x}", weight, "base", modules) for i in range(count)]
    return plan(
        method, members, options=options, base="base", dtype="bfloat16", rank_limit=None,
        limits=limits,
    )  # fmt: skip


NAMES = {"weight": "WEFT_W", "ingredients": "WEFT_I", "total_rank": "WEFT_R", "nbytes": "WEFT_B",
         "seconds": "WEFT_S"}  # fmt: skip


def test_every_limit_has_a_message() -> None:
    """A merge above a limit is refused by size, limit and setting; one at it is not."""
    one = Limits(weight=1e4, ingredients=2, total_rank=16, names=NAMES)
    planned(2, 8, one, weight=-1e4, scale=1e4)
    for match, count, rank, options in (
        ("weight 10001; this server allows sizes of up to 10000 .WEFT_W", 1, 8, {"weight": 10_001}),
        ("the scale is -1e.30; this server", 1, 8, {"scale": -1e30}),
        ("3 ingredients; this server allows at most 2 .WEFT_I", 3, 4, {}),
        ("add up to 18 in q; this server allows at most 16 .WEFT_R", 2, 9, {}),
    ):
        with pytest.raises(LimitExceeded, match=match):
            planned(count, rank, one, **options)


def test_work_is_refused_before_it_starts() -> None:
    """A thousand restarts over fifty adapters are refused by memory, and by time."""
    for limits, match in (
        (Limits(nbytes=2**29, names=NAMES), "MB of memory; this server allows bytes.*WEFT_B"),
        (Limits(seconds=5, names=NAMES), "s or more; this server allows seconds.*WEFT_S"),
    ):
        planned(5, 16, limits, method="lego", n_init=10)
        with pytest.raises(LimitExceeded, match=match):
            planned(50, 16, limits, method="lego", n_init=1000)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_usual_merges_are_within_the_usual_limits(method: str) -> None:
    """Every method takes some adapters of rank 16 at the widths of an 8B model, by default."""
    count = METHODS[method].requirements.members or 5
    limits = Limits(nbytes=8 * 2**30, seconds=120, total_rank=4096, ingredients=64, threads=2)
    planned(count, 16, limits, method=method, width=8192)
