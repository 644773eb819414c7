"""Spilled modules are read back unchanged, and no file remains."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from merge.factors import Factors
from merge.spill import Spill
from tests.laws.laws import random_factors


def test_factors_come_back_bit_for_bit(tmp_path: Path) -> None:
    """Factors from several threads, views and scaled ones too, are read back bit for bit."""
    given = {f"m{i}": random_factors(i, 1 + i % 5, 30 + i, 20, scale=1.0) for i in range(40)}
    view = torch.randn(20, 9)[:, 2:5]  # not contiguous
    given["view"] = Factors(torch.randn(3, 7), view, 2.0)
    with Spill(tmp_path) as spill:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda item: spill.put(*item), given.items()))
        for name in reversed(given):
            back = spill.get(name)
            assert torch.equal(given[name].a, back.a)
            assert torch.equal(given[name].folded().b if name == "view" else given[name].b, back.b)
            assert 1.0 == back.scale


def test_the_file_has_no_name(tmp_path: Path) -> None:
    """The folder is empty while the spill is open and after it is closed."""
    with Spill(tmp_path) as spill:
        spill.put("m", random_factors(0, 3))
        assert [] == list(tmp_path.iterdir())
    assert [] == list(tmp_path.iterdir())


def test_unknown_modules_are_a_key_error(tmp_path: Path) -> None:
    """Reading a module that was never put raises KeyError."""
    with Spill(tmp_path) as spill, pytest.raises(KeyError):
        spill.get("m")
