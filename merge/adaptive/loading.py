"""The base for a job: its size before it is loaded, then its weights, frozen.

On a CPU in float32, so that what is trained is what a float32 engine serves; on a GPU in the dtype
that its config names.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psutil
import torch

from merge.adaptive.fresh import linear_widths
from merge.adaptive.host import freeze
from merge.adaptive.losses import PASS_TOKENS
from merge.adaptive.memory import Sizes, check_memory, most_ranks
from merge.adaptive.options import Options


class Loaded(NamedTuple):
    """A base that is ready to be asked."""

    model: Any  # frozen, in evaluation mode
    tokenizer: Any


def device_of(asked: str) -> torch.device:
    """Return the device that a setting means; "auto" is a GPU where there is one."""
    if asked != "auto":
        return torch.device(asked)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_base(model: str, device: torch.device) -> Any:
    """Return the base's model, frozen, on the device. Raises OSError: it is not there."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    dtype = torch.float32 if device.type == "cpu" else "auto"
    return freeze(AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(device))


def load_tokenizer(model: str) -> Any:
    """Return the base's tokenizer. Raises OSError: it is not there."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def size_of(
    model: str,
    device: torch.device,
    options: Options,
    *,
    fresh_rank: int,
    ranks: Sequence[Mapping[str, int]],
    longest: int,
) -> Sizes:
    """Return what decides a job's memory, from the base's config alone.

    Args:
        model: the base's weights; only its config is read.
        device: that it will be on.
        options: of the job.
        fresh_rank: of the fresh LoRA.
        ranks: by module, of each pool member.
        longest: tokens of the longest example.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    widths = linear_widths(empty)
    dtype = torch.float32 if device.type == "cpu" else config.dtype or torch.float32
    rank = fresh_rank if options.needs_fresh else 0
    targeted = dict.fromkeys(widths, rank) if options.target else {}
    k = max(options.k) - (1 if targeted else 0)
    return Sizes(
        base_bytes=sum(p.numel() for p in empty.parameters()) * dtype.itemsize,
        number_bytes=4,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        tokens=max(longest, min(PASS_TOKENS, longest * options.batch_size)),
        modules=widths,
        fresh_rank=rank,
        ranks=most_ranks(ranks, k, targeted),
    )


def check_fits(sizes: Sizes, device: torch.device, allowed: int | None) -> int:
    """Return the bytes that a job needs. Raises MemoryTooSmall: more than there are."""
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
    else:
        free = int(psutil.virtual_memory().available)
    return check_memory(sizes, free if allowed is None else min(allowed, free))
