"""Spilled modules are read back unchanged, and no file remains."""

import os
from pathlib import Path

import pytest
import torch

from merge.factors import Factors
from merge.recipe import ModuleShape
from merge.spill import Spill
from tests.laws.laws import random_factors


def shape(f: Factors, *, room: int = 0) -> ModuleShape:
    """Return the shape of factors, or one with room for more MSUs."""
    return ModuleShape(f.rank + room, f.a.shape[1], f.b.shape[0], "linear")


def test_factors_come_back_bit_for_bit(tmp_path: Path) -> None:
    """Factors of this process and a forked one, of full and smaller rank, views and scaled ones
    too, are read back bit for bit."""
    given = {f"m{i}": random_factors(i, 1 + i % 5, 30 + i, 20, scale=1.0) for i in range(40)}
    view = torch.randn(20, 9)[:, 2:5]  # not contiguous
    given["view"] = Factors(torch.randn(3, 7), view, 2.0)
    rooms = {name: shape(f, room=i % 3) for i, (name, f) in enumerate(given.items())}
    with Spill(tmp_path, rooms) as spill:
        names = list(given)
        child = os.fork()
        for name in names[1::2] if child else names[::2]:
            spill.put(name, given[name])
        if not child:
            os._exit(0)
        assert (child, 0) == os.waitpid(child, 0)
        for name in reversed(given):
            back = spill.get(name, shape(given[name]))
            assert torch.equal(given[name].a, back.a)
            assert torch.equal(given[name].folded().b if name == "view" else given[name].b, back.b)
            assert 1.0 == back.scale


def test_the_file_has_no_name(tmp_path: Path) -> None:
    """The folder is empty while the spill is open and after it is closed."""
    factors = random_factors(0, 3)
    with Spill(tmp_path, {"m": shape(factors)}) as spill:
        spill.put("m", factors)
        assert [] == list(tmp_path.iterdir())
    assert [] == list(tmp_path.iterdir())


def test_unknown_modules_are_a_key_error(tmp_path: Path) -> None:
    """Reading a module that has no place raises KeyError, one that was never put EOFError."""
    wanted = ModuleShape(1, 2, 3, "linear")
    with Spill(tmp_path, {"m": wanted}) as spill:
        with pytest.raises(KeyError):
            spill.get("n", wanted)
        with pytest.raises(EOFError, match="m was never put"):
            spill.get("m", wanted)
