"""Convert pickled weights to safetensors, offline and in a child process. The server never does it.

`torch.load(weights_only=True)` calls nothing that a pickle names; should it have a fault, the child
process has limits on memory, time and the bytes that it writes. Covered: one file of tensors by
name. Not covered: what the tensors mean (`weft check` tells), sharded checkpoints.
"""

import re
import shutil
import struct
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from merge.peft_format import CONFIG_NAME, PICKLED_WEIGHTS, WEIGHTS_NAME
from merge.peft_format.atomic_files import atomic_folder
from merge.peft_format.problems import FETCH_LFS, LFS_MARK, LFS_POINTER
from registry.admission.card import CARD_NAME
from server import children

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# What torch writes about a name that it refuses to import or call.
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
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
    for name in PICKLED_WEIGHTS:
        path = source / name
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(LFS_MARK)) == LFS_MARK:
                    raise ConversionFailed(f"{path} is {LFS_POINTER}: {FETCH_LFS}")
            return path
    if (source / WEIGHTS_NAME).is_file():
        raise ConversionFailed(f"{source} holds {WEIGHTS_NAME} already; try `weft check {source}`")
    raise ConversionFailed(f"{source} holds none of {', '.join(PICKLED_WEIGHTS)}")


def _run(pickle: Path, weights: Path, limits: Limits) -> int:
    explain = partial(_explain, pickle.name)
    try:
        return children.call(
            _limited, pickle, weights, limits, seconds=limits.seconds, explain=explain
        )
    except children.ChildDied:
        raise ConversionFailed(
            "the process that read the pickle ran out of time or memory"
        ) from None
    except (children.ChildTimeout, children.ChildFailed) as error:
        raise ConversionFailed(str(error)) from None


def _explain(name: str, error: Exception) -> str:
    """Return a sentence for any exception: the file is not trusted, so all kinds are possible.

    Torch's own text is not passed on: it advises to load the file without its protection.
    """
    if isinstance(error, OSError):
        return f"{name} could not be read, or the tensors not written: {_plain(error)}"
    if isinstance(error, UnpicklingError):
        named = _GLOBAL.search(str(error))
        if named is not None:
            return (
                f"{name} calls {named.group(1)[:100]}, which could run code, so it was not opened; "
                "ask its author for safetensors"
            )
    if isinstance(error, UnpicklingError | EOFError | struct.error):
        return f"{name} is not a pickle of tensors, or it is damaged; fetch it again"
    return f"{name} could not be converted: {_plain(error)}"


def _plain(error: Exception) -> str:
    """Return the first line of an error without terminal codes or control characters."""
    lines = _TERMINAL_CODES.sub("", str(error)).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0])[:400]


def _limited(pickle: Path, weights: Path, limits: Limits) -> int:
    import torch  # before the limits: it writes temporary files, and its memory is not counted

    warnings.simplefilter("ignore")  # torch writes about the pickle's protocol to the terminal
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
        Exception: `torch.load` refuses the file.
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
            raise ValueError(f"{name!a} is not a dense tensor on the CPU")
        # A copy: several names may share one storage, which safetensors cannot express.
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
    save_file(tensors, weights, metadata={"format": "pt"})
    return len(tensors)
