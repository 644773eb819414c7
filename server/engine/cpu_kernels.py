"""Replacements for vLLM's LoRA kernels on the CPU. Runs inside vLLM; the only code that patches it.

The stock CPU path (vLLM 0.32, `vllm/lora/ops/torch_ops/lora_ops.py`) has three faults:
1. Rows without an adapter have the index -1, which in Python selects the *last* adapter's weights:
   a base request in a batch with adapter requests is answered by another tenant's adapter.
2. With prompt log-probabilities the logits have a row per prompt token, but the indices one per
   request: the engine dies of a shape error.
3. The adapter's weights are gathered once per token: (tokens, rank, d_in) bytes are copied for a
   product that needs (rank, d_in).
These kernels skip rows with an index below 0, group a batch's rows by adapter once a step, and
multiply group by group. GPU kernels stay.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

MENDED_FOR = "0.32"
# Multiply-adds of one product. Below, waking the other threads takes longer than they save: 40 µs
# against 5 to 40 for all of the product, on two cores. Above, they save up to a half.
_WORTH_THREADS = 8_000_000
# vLLM's worker replaces torch's own by one that does nothing, later than this module is imported.
_set_num_threads = torch.set_num_threads


def install() -> None:
    """Replace the kernels that the CPU wrapper calls.

    Raises:
        ImportError: vLLM is another release than the one these replacements were written for;
            serving with unknown kernels could answer one tenant with another's adapter.
    """
    import vllm
    from vllm.lora.punica_wrapper import punica_cpu

    if not vllm.__version__.startswith(MENDED_FOR + "."):
        raise ImportError(
            f"weft's CPU kernels are for vLLM {MENDED_FOR}, but {vllm.__version__} is installed: "
            "install the release that weft pins, or serve on a GPU"
        )
    punica_cpu.bgmv_shrink = bgmv_shrink
    punica_cpu.bgmv_expand = bgmv_expand
    punica_cpu.bgmv_expand_slice = bgmv_expand_slice
    punica_cpu.sgmv_shrink = _by_segment(bgmv_shrink)
    punica_cpu.sgmv_expand = _by_segment(bgmv_expand)
    punica_cpu.sgmv_expand_slice = _by_segment(bgmv_expand_slice)


def bgmv_shrink(
    inputs: torch.Tensor,  # (tokens, d_in)
    weights: torch.Tensor,  # (slots, 1, rank, d_in)
    output: torch.Tensor,  # (tokens, >= rank), overwritten
    indices: torch.Tensor,  # (tokens,) slot of each row, below 0 for none
    scaling: float = 1.0,
) -> None:
    """Write `scaling * inputs @ A.T` with each row's adapter; zero in rows without one."""
    columns = output[:, : weights.shape[-2]]
    groups = _grouped(indices) if inputs.shape[0] == indices.shape[0] else None
    if groups is None or not groups.cover:
        columns.zero_()  # the buffer may hold another batch's values
    if groups is None or not groups.slots:  # no groups: fault 2, see `_aligned`
        return
    with _threads_for(groups, weights):
        product = _product(inputs, weights, groups, columns)
        _put(product if scaling == 1 else product.mul_(scaling), groups, columns)


def bgmv_expand(
    inputs: torch.Tensor,  # (tokens, rank)
    weights: torch.Tensor,  # (slots, 1, d_out, rank)
    output: torch.Tensor,  # (tokens, >= d_out)
    indices: torch.Tensor,  # (tokens,)
    add_inputs: bool = True,
) -> None:
    """Add (or write) `inputs @ B.T` with each row's adapter; rows without one are unchanged."""
    # As in the stock kernel: either side may be the narrower one.
    width = min(weights.shape[-2], output.shape[1])
    _expand(inputs, weights, output[:, :width], indices, add=add_inputs)


def bgmv_expand_slice(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    output: torch.Tensor,
    indices: torch.Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """Do as `bgmv_expand` within columns `[slice_offset, slice_offset + slice_size)`."""
    columns = output[:, slice_offset : slice_offset + slice_size]
    _expand(inputs, weights, columns, indices, add=add_inputs)


def _expand(
    inputs: torch.Tensor,
    weights: torch.Tensor,
    columns: torch.Tensor,
    indices: torch.Tensor,
    *,
    add: bool,
) -> None:
    if not _aligned(inputs, columns, indices):
        return
    groups = _grouped(indices)
    if groups.slots:
        with _threads_for(groups, weights):
            _put(_product(inputs, weights, groups, columns), groups, columns, add=add)


def _aligned(inputs: torch.Tensor, output: torch.Tensor, indices: torch.Tensor) -> bool:
    """Return whether there is an index for each row.

    There is none for the logits of prompt tokens (fault 2), where vLLM does not tell which rows are
    whose. Such rows are unchanged, which is exact unless the adapter has an lm_head pair; the
    gateway refuses prompt log-probabilities for those adapters.
    """
    return inputs.shape[0] == indices.shape[0] == output.shape[0]


@dataclass(frozen=True, slots=True)
class _Groups:
    """The rows of a batch by adapter.

    `slots` has (slot, begin, end) of each adapter, ranges of the rows in `order`. `order` is None
    if the rows are in order as they are; `cover`: every row has an adapter.
    """

    indices: torch.Tensor
    slots: Sequence[tuple[int, int, int]]
    order: torch.Tensor | None
    cover: bool

    @property
    def longest(self) -> int:
        """The number of rows of the adapter that has most."""
        return max(end - begin for _, begin, end in self.slots)

    @classmethod
    def of(cls, indices: torch.Tensor) -> "_Groups":
        """Group rows by their slots, whose `indices` are copied."""
        order = torch.argsort(indices, stable=True)
        values, counts = torch.unique(indices, return_counts=True)
        slots, begin = list[tuple[int, int, int]](), 0
        for slot, count in zip(values.tolist(), counts.tolist(), strict=True):
            if slot >= 0:
                slots.append((slot, begin, begin + count))
                begin += count
        cover = begin == len(indices)
        if cover and torch.equal(order, torch.arange(len(indices))):
            return cls(indices.clone(), slots, None, cover)
        return cls(indices.clone(), slots, order[len(indices) - begin :], cover)


_last: _Groups | None = None


def _grouped(indices: torch.Tensor) -> _Groups:
    """Return the groups of a batch: computed once for a step, whose layers have equal indices.

    Indices are compared by value (a microsecond; grouping takes 30): vLLM writes those of the next
    step into the same memory.
    """
    global _last  # noqa: PLW0603 - a memo of the process, which runs one step at a time
    if _last is None or not torch.equal(_last.indices, indices):
        _last = _Groups.of(indices)
    return _last


@contextmanager
def _threads_for(groups: _Groups, weights: torch.Tensor) -> Iterator[None]:
    """Compute in one thread where a product is too small to be worth more."""
    before = torch.get_num_threads()
    if groups.longest * weights.shape[-2] * weights.shape[-1] < _WORTH_THREADS:
        _set_num_threads(1)
    try:
        yield
    finally:
        _set_num_threads(before)


def _product(
    inputs: torch.Tensor, weights: torch.Tensor, groups: _Groups, columns: torch.Tensor
) -> torch.Tensor:
    """Return `inputs @ W.T` in the groups' order, as wide as `columns` and in its dtype."""
    dtype, width = columns.dtype, columns.shape[1]
    rows = inputs if groups.order is None else inputs.index_select(0, groups.order)
    rows = rows.to(dtype)
    matrices = _matrices(weights, width)
    if len(groups.slots) == 1:  # slices cost as much as a small product
        return rows @ matrices[groups.slots[0][0]].to(dtype)
    product = rows.new_empty(len(rows), width)
    lengths = [end - begin for _, begin, end in groups.slots]
    parts = torch.split_with_sizes(rows, lengths), torch.split_with_sizes(product, lengths)
    for (slot, _, _), part, out in zip(groups.slots, *parts, strict=True):
        torch.mm(part, matrices[slot].to(dtype), out=out)
    return product


def _put(
    product: torch.Tensor, groups: _Groups, columns: torch.Tensor, *, add: bool = False
) -> None:
    """Write, or add, the rows of a product where they belong."""
    if groups.order is None:
        columns.add_(product) if add else columns.copy_(product)
    elif add:
        columns.index_add_(0, groups.order, product)
    else:
        columns.index_copy_(0, groups.order, product)


def _matrices(weights: torch.Tensor, width: int) -> Sequence[torch.Tensor]:
    """Return the first `width` rows of each slot's matrix, transposed."""
    # All views at once: to index slot by slot takes longer than a small product.
    stacked = weights[:, 0] if weights.dim() == 4 else weights
    return tuple(stacked[:, :width].transpose(1, 2).unbind())


_last_rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None


def _of_rows(indices: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return the index of each row of a batch: computed once for a step, see `_grouped`."""
    global _last_rows  # noqa: PLW0603 - as `_last`
    if _last_rows is not None:
        known, known_lengths, rows = _last_rows
        if torch.equal(known, indices) and torch.equal(known_lengths, lengths):
            return rows
    rows = torch.repeat_interleave(indices, lengths)
    _last_rows = indices.clone(), lengths.clone(), rows
    return rows


def _by_segment(kernel: Callable[..., None]) -> Callable[..., None]:
    """Return a kernel with the prefill signature, which has an index per segment."""

    def segmented(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        _starts: torch.Tensor,
        lengths: torch.Tensor,  # (segments,) tokens of each
        indices: torch.Tensor,  # (segments,) slot of each
        _batches: int,
        _longest: int,
        _tokens: int,
        *rest: Any,
    ) -> None:
        kernel(inputs, weights, output, _of_rows(indices, lengths), *rest)

    return segmented
