"""Replacements for vLLM's LoRA kernels on the CPU. Runs inside vLLM; the only code that patches it.

The stock CPU path (vLLM 0.32, `vllm/lora/ops/torch_ops/lora_ops.py`) has three faults:
1. Rows without an adapter have the index -1, which in Python selects the *last* adapter's weights:
   a base request in a batch with adapter requests is answered by another tenant's adapter.
2. With prompt log-probabilities the logits have a row per prompt token, but the indices one per
   request: the engine dies of a shape error.
3. The adapter's weights are gathered once per token: (tokens, rank, d_in) bytes are copied for a
   product that needs (rank, d_in).
These kernels skip rows with an index below 0 and work adapter by adapter. GPU kernels stay.
"""

from collections.abc import Callable
from typing import Any

import torch

MENDED_FOR = "0.32"


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
    rank = weights.shape[-2]
    output[:, :rank] = 0  # the buffer may hold another batch's values
    if inputs.shape[0] != indices.shape[0]:
        return  # fault 2: see `_aligned`
    for slot, rows in _groups(indices):
        a = _matrix(weights, slot, output.dtype)
        output[rows, :rank] = scaling * (inputs[rows].to(output.dtype) @ a.T)


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
    output: torch.Tensor,
    indices: torch.Tensor,
    *,
    add: bool,
) -> None:
    if not _aligned(inputs, output, indices):
        return
    width = output.shape[1]
    for slot, rows in _groups(indices):
        product = inputs[rows].to(output.dtype) @ _matrix(weights, slot, output.dtype)[:width].T
        output[rows] = output[rows] + product if add else product


def _aligned(inputs: torch.Tensor, output: torch.Tensor, indices: torch.Tensor) -> bool:
    """Return whether there is an index for each row.

    There is none for the logits of prompt tokens (fault 2), where vLLM does not tell which rows are
    whose. Such rows are unchanged, which is exact unless the adapter has an lm_head pair; the
    gateway refuses prompt log-probabilities for those adapters.
    """
    return inputs.shape[0] == indices.shape[0] == output.shape[0]


def _groups(indices: torch.Tensor) -> list[tuple[int, torch.Tensor | slice]]:
    """Return (slot, rows) of each adapter in the batch; a slice, which copies nothing, for one."""
    slots = torch.unique(indices).tolist()
    if len(slots) == 1:
        return [(slots[0], slice(None))] if slots[0] >= 0 else []
    return [(slot, (indices == slot).nonzero().squeeze(1)) for slot in slots if slot >= 0]


def _matrix(weights: torch.Tensor, slot: int, dtype: torch.dtype) -> torch.Tensor:
    matrix = weights[slot]
    return (matrix[0] if matrix.dim() == 3 else matrix).to(dtype)


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
        kernel(inputs, weights, output, torch.repeat_interleave(indices, lengths), *rest)

    return segmented
