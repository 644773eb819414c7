"""MSUs of many modules; `tests/oracles` compares what is made of them."""

import pytest
import torch

from merge import units
from merge.factors import Stack
from merge.methods import METHODS
from merge.methods.lego import lego
from merge.units import largest_of_columns, largest_of_rows
from tests.laws.laws import random_factors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_files_numbers_have_the_same_largest_entries(dtype: torch.dtype) -> None:
    """Infinity norms of numbers as files hold them are those of their float32 widening."""
    x = torch.randn(2, 37, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, :, 1] = 0.0
    assert torch.equal(largest_of_columns(x.float()), largest_of_columns(x))
    assert torch.equal(largest_of_rows(x.float()), largest_of_rows(x))


def test_modules_of_one_shape_as_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiplied side by side, as on a GPU, modules have the results that they have alone."""
    widths = [(20, 30), (64, 30), (20, 30), (20, 30)]
    stacks = [
        Stack(f"m{i}", tuple(random_factors(9 * i + j, 3 + j, *w) for j in range(3)), (1, -2, 0.5))
        for i, w in enumerate(widths)
    ]
    alone = [lego(stack, rank=4, balance=True) for stack in stacks]
    monkeypatch.setattr(units, "_apart", lambda _: False)
    options = METHODS["lego"].bind({"rank": 4, "balance": True})
    del options["scale"]
    together = list(METHODS["lego"].merge(stacks, options))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other.factors.a, one.factors.a)
        torch.testing.assert_close(other.factors.b, one.factors.b)
