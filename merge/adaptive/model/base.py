"""The base of a job: its size before it is loaded, then its weights, frozen.

Loaded in float32 on a CPU, which is what a float32 engine serves and what CPU kernels are fast in;
on a GPU in the dtype of its config.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from merge.adaptive.model.fresh_lora import linear_widths
from merge.adaptive.model.hooks import freeze
from merge.adaptive.model.host_memory import available_bytes
from merge.adaptive.model.memory import PASS_TOKENS, STEP_TOKENS, Sizes, check_memory, least_ranks
from merge.adaptive.options import Options
from merge.peft_format import AdapterFolder


class Loaded(NamedTuple):
    """A loaded base with its tokenizer."""

    model: Any  # frozen, in evaluation mode
    tokenizer: Any


def device_of(asked: str) -> torch.device:
    """Return the device of a setting; "auto" is the GPU if there is one, else the CPU."""
    if asked != "auto":
        return torch.device(asked)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_base(model: str, device: torch.device) -> Any:
    """Return the base's model, frozen, on the device. Raises OSError: it cannot be read."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    dtype = torch.float32 if device.type == "cpu" else "auto"
    return freeze(AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device))


def load_tokenizer(model: str) -> Any:
    """Return the base's tokenizer. Raises OSError: it cannot be read."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The memory that a job needs and the memory that is free, before anything is loaded."""

    sizes: Sizes  # of a job that merges nothing
    free: int  # bytes
    target: Mapping[str, int]  # ranks of the target LoRA by module; none without one

    def check(self, members: Sequence[AdapterFolder], k: int) -> None:
        """Check that k of these adapters fit, the smallest. Raises MemoryTooSmall."""
        ranks = [{name: m.rank for name, m in each.modules.items()} for each in members]
        check_memory(replace(self.sizes, ranks=least_ranks(ranks, k, self.target)), self.free)


def memory_budget(
    model: str,
    device: torch.device,
    options: Options,
    *,
    fresh_rank: int,
    lengths: Sequence[int],
    answers: Sequence[int],
    allowed: int | None,
) -> MemoryBudget:
    """Return the memory budget of a job, from the base's config alone.

    Args:
        model: the base's weights; only its config is read.
        device: of the base and everything on it.
        options: of the job.
        fresh_rank: of the fresh LoRA.
        lengths: tokens of every example.
        answers: tokens of every example's answers.
        allowed: bytes that the job may use; None for all that is free.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):  # shapes without storage
        empty = AutoModelForCausalLM.from_config(config)
    widths = linear_widths(empty)
    dtype = torch.float32 if device.type == "cpu" else config.dtype or torch.float32
    rank, longest = fresh_rank if options.needs_fresh else 0, max(lengths)
    sizes = Sizes(
        base_bytes=sum(p.numel() for p in empty.parameters()) * dtype.itemsize,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        step=max(longest, min(STEP_TOKENS, longest * options.batch_size)),
        measure=max(longest, min(PASS_TOKENS, sum(lengths))),
        answers=sum(answers) / sum(lengths),
        modules=widths,
        fresh_rank=rank,
        ranks={},
    )
    free = _free(device)
    target = dict.fromkeys(widths, rank) if options.targeted else {}
    return MemoryBudget(sizes, free if allowed is None else min(allowed, free), target)


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()
