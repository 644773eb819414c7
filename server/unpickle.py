"""Pickled weights into safetensors, offline and in a process of its own. The server never does it.

`torch.load(weights_only=True)` calls nothing that a pickle names; should it ever be fooled, the
process has little memory, little time, may write little and ends. Covered: one file that holds
tensors by name. Not covered: what the tensors mean (`weft check` says), sharded checkpoints.
"""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME
from merge.peft_format.atomic_files import atomic_folder
from registry.admission.card import CARD_NAME
from server import children

PICKLES = ("adapter_model.bin", "adapter_model.pt")
_SPARE_BYTES = 2**30


class ConversionFailed(Exception):
    """The pickle could not be turned into safetensors; nothing was written."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the process may take. Memory is what it may claim beyond what torch itself does."""

    memory_factor: float = 4.0  # of the pickle's size: its bytes, the tensors, a copy, room
    seconds: float = 300.0


def convert(source: Path, target: Path, limits: Limits | None = None) -> int:
    """Write the adapter of `source` into the new folder `target`, with safetensors for its pickle.

    Config and card are copied as they are.

    Returns:
        How many tensors there are.

    Raises:
        ConversionFailed: with the reason.
        OSError: the disk is full or gone.
    """
    pickle = _pickle_of(source)
    try:
        with atomic_folder(target) as folder:
            count = _run(pickle, folder / WEIGHTS_NAME, limits or Limits())
            for name in (CONFIG_NAME, CARD_NAME):
                if (source / name).is_file() and not (source / name).is_symlink():
                    shutil.copyfile(source / name, folder / name)
    except FileExistsError as error:
        raise ConversionFailed(str(error)) from None
    return count


def _pickle_of(source: Path) -> Path:
    for name in PICKLES:
        if (source / name).is_file() and not (source / name).is_symlink():
            return source / name
    raise ConversionFailed(f"{source} has none of {', '.join(PICKLES)}")


def _run(pickle: Path, weights: Path, limits: Limits) -> int:
    explain = partial(_explain, pickle.name)
    try:
        return children.call(
            _limited, pickle, weights, limits, seconds=limits.seconds, explain=explain
        )
    except children.ChildDied:
        raise ConversionFailed(
            "its process was ended, for taking too much time or memory"
        ) from None
    except (children.ChildTimeout, children.ChildFailed) as error:
        raise ConversionFailed(str(error)) from None


def _explain(name: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{name} could not be read, or the tensors not written: {error}"[:500]
    # The file is a stranger's: any exception becomes a sentence.
    lines = str(error).strip().splitlines() or [""]
    return f"{name}: {type(error).__name__}: {lines[0]}"[:500]


def _limited(pickle: Path, weights: Path, limits: Limits) -> int:
    import torch  # before the limits: it writes temporary files, and its memory is not counted

    torch.set_num_threads(1)
    size = pickle.stat().st_size
    children.limit(
        spare_bytes=int(size * limits.memory_factor) + _SPARE_BYTES,
        file_bytes=2 * size + 2**20,
        cpu_seconds=int(limits.seconds) + 1,
    )
    return load_and_save(pickle, weights)


def load_and_save(pickle: Path, weights: Path) -> int:
    """Read a pickle of tensors by name and write them as safetensors; return how many.

    Raises:
        ValueError: it holds something else.
        Exception: whatever `torch.load` says of a file that is none, or not safe.
    """
    import torch
    from safetensors.torch import save_file

    loaded: Any = torch.load(pickle, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict) or not loaded:
        raise ValueError(f"expected tensors by name, found {type(loaded).__name__}")
    tensors = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise ValueError(f"expected tensors by name, found {type(value).__name__} at {name!a}")
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise ValueError(f"{name!a} is no plain tensor")
        # A copy: several names may share one storage, which safetensors does not know.
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
    save_file(tensors, weights, metadata={"format": "pt"})
    return len(tensors)
