"""The corrected CPU kernels against a row-by-row reference."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from server.engine import cpu_kernels
from server.engine.cpu_kernels import bgmv_expand, bgmv_expand_slice, bgmv_shrink

TOKENS, D_IN, D_OUT, RANK, SLOTS = 7, 6, 10, 3, 4
INDICES = {
    "mixed": [2, -1, 0, 2, 3, -1, 0],
    "one slot for all": [1] * TOKENS,
    "no adapter at all": [-1] * TOKENS,
    "last slot and none": [3, -1, 3, -1, 3, -1, 3],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep small products from waking every core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return seeded normal numbers of a shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def slots_of(indices: list[int]) -> Tensor:
    """Return indices as vLLM passes them."""
    return torch.tensor(indices, dtype=torch.int64)


@pytest.mark.parametrize("indices", INDICES.values(), ids=INDICES.keys())
@pytest.mark.parametrize("dims", [3, 4])
def test_shrink_is_each_row_by_its_own_adapter(indices: list[int], dims: int) -> None:
    """Row i is scaling * A[slot] x, and zero without a slot; other columns are left alone."""
    x, a, output = (
        random(TOKENS, D_IN),
        random(SLOTS, 1, RANK, D_IN, seed=1),
        random(TOKENS, RANK + 2),
    )
    expected = output.clone()
    for row, slot in enumerate(indices):
        expected[row, :RANK] = 0.5 * (a[slot, 0] @ x[row]) if slot >= 0 else 0.0
    bgmv_shrink(x, a if dims == 4 else a[:, 0], output, slots_of(indices), 0.5)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("indices", INDICES.values(), ids=INDICES.keys())
@pytest.mark.parametrize("add", [True, False])
def test_expand_is_each_row_by_its_own_adapter(indices: list[int], add: bool) -> None:
    """Row i gets B[slot] h added or written; a row without a slot stays bit for bit."""
    h, b, output = (
        random(TOKENS, RANK),
        random(SLOTS, 1, D_OUT, RANK, seed=1),
        random(TOKENS, D_OUT),
    )
    expected = output.clone()
    for row, slot in enumerate(indices):
        if slot >= 0:
            expected[row] = b[slot, 0] @ h[row] + (output[row] if add else 0)
    untouched = [row for row, slot in enumerate(indices) if slot < 0]
    before = output[untouched].clone()
    bgmv_expand(h, b, output, slots_of(indices), add_inputs=add)
    torch.testing.assert_close(output, expected)
    assert torch.equal(before, output[untouched])


def test_expand_into_a_narrower_output_uses_the_first_rows() -> None:
    """If the output has fewer columns than B has rows, the surplus rows of B are ignored."""
    h, b, output = random(2, RANK), random(SLOTS, 1, D_OUT, RANK), torch.zeros(2, 4)
    bgmv_expand(h, b, output, slots_of([1, -1]))
    torch.testing.assert_close(output[0], b[1, 0, :4] @ h[0])
    assert torch.equal(output[1], torch.zeros(4))


@settings(max_examples=60, deadline=None)
@given(
    indices=st.lists(st.integers(-1, SLOTS - 1), min_size=1, max_size=12),
    offset=st.integers(0, 8),
    size=st.integers(1, 6),
    add=st.booleans(),
)
def test_a_slice_changes_its_columns_only(
    indices: list[int], offset: int, size: int, add: bool
) -> None:
    """For any rows and slices, the result equals the row-by-row reference."""
    h, b = random(len(indices), RANK), random(SLOTS, 1, size, RANK, seed=1)
    output = random(len(indices), 14, seed=2)
    expected = output.clone()
    for row, slot in enumerate(indices):
        if slot >= 0:
            old = output[row, offset : offset + size] if add else 0
            expected[row, offset : offset + size] = b[slot, 0] @ h[row] + old
    bgmv_expand_slice(h, b, output, slots_of(indices), offset, size, add_inputs=add)
    torch.testing.assert_close(output, expected)


def test_rows_are_grouped_once_for_equal_indices_and_again_when_they_change() -> None:
    """The layers of a step share one grouping; indices that the next step writes into the same
    memory have another."""
    indices = slots_of(INDICES["mixed"])
    first = cpu_kernels._grouped(indices)
    assert first is cpu_kernels._grouped(indices.clone())
    indices[0] = 1
    again = cpu_kernels._grouped(indices)
    assert again is not first
    assert 1 in {slot for slot, _, _ in again.slots}


def test_rows_that_do_not_belong_to_the_indices_do_nothing() -> None:
    """Logits of prompt tokens have more rows than there are indices: shrink gives zeros, expand
    leaves everything as it is, and nothing raises.
    """
    shrunk = random(TOKENS, RANK)
    bgmv_shrink(random(TOKENS, D_IN), random(SLOTS, 1, RANK, D_IN), shrunk, slots_of([0, 1]))
    assert torch.equal(shrunk, torch.zeros(TOKENS, RANK))
    output = random(TOKENS, D_OUT)
    before = output.clone()
    weights = random(SLOTS, 1, D_OUT, RANK)
    bgmv_expand(random(TOKENS, RANK), weights, output, slots_of([0, 1]))
    bgmv_expand_slice(random(TOKENS, RANK), weights, output, slots_of([0, 1]), 0, D_OUT)
    assert torch.equal(before, output)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_the_output_s_dtype(dtype: torch.dtype) -> None:
    """The engine shrinks half-precision rows into float32 buffers and expands from them."""
    x, a = random(TOKENS, D_IN, dtype=dtype), random(SLOTS, 1, RANK, D_IN, seed=1, dtype=dtype)
    output = torch.zeros(TOKENS, RANK)
    bgmv_shrink(x, a, output, slots_of([1] * TOKENS))
    torch.testing.assert_close(output, x.float() @ a[1, 0].float().T)
    b, written = random(SLOTS, 1, D_OUT, RANK, dtype=dtype), torch.zeros(TOKENS, D_OUT, dtype=dtype)
    bgmv_expand(output, b, written, slots_of([1] * TOKENS))
    torch.testing.assert_close(written, output.to(dtype) @ b[1, 0].T)


def test_segments_are_spread_over_rows_once_for_a_step() -> None:
    """The layers of a step share the index of each row; the next step, which may write other
    indices or other lengths into the same memory, has its own."""
    indices, lengths = slots_of([2, -1, 0]), torch.tensor([3, 1, 2])
    first = cpu_kernels._of_rows(indices, lengths)
    assert first is cpu_kernels._of_rows(indices.clone(), lengths.clone())
    assert [2, 2, 2, -1, 0, 0] == first.tolist()
    indices[0] = 1
    assert [1, 1, 1, -1, 0, 0] == cpu_kernels._of_rows(indices, lengths).tolist()
    lengths[0], lengths[2] = 2, 3
    assert [1, 1, -1, 0, 0, 0] == cpu_kernels._of_rows(indices, lengths).tolist()


def test_segments_are_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prefill kernels, with indices per segment, are the others with those indices repeated."""
    lengths, per_segment = torch.tensor([3, 1, 2]), slots_of([2, -1, 0])
    rest: tuple[Any, ...] = (torch.tensor([0, 3, 4]), lengths, per_segment, 3, 3, 6)
    rows = slots_of([2, 2, 2, -1, 0, 0])
    x, a, b = random(6, D_IN), random(SLOTS, 1, RANK, D_IN), random(SLOTS, 1, 4, RANK)
    h = random(6, RANK, seed=3)
    for kernel, inputs, weights, width, arguments in (
        (bgmv_shrink, x, a, RANK, (0.5,)),
        (bgmv_expand, h, b, 4, (True,)),
        (bgmv_expand_slice, h, b, 6, (1, 4, True)),
    ):
        expected, output = random(6, width, seed=4), random(6, width, seed=4)
        kernel(inputs, weights, expected, rows, *arguments)
        cpu_kernels._by_segment(kernel)(inputs, weights, output, *rest, *arguments)
        assert torch.equal(expected, output)
