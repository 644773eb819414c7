"""What no merge can beat: reading the inputs and writing the output, and nothing else."""

import os
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from merge.peft_format import WEIGHTS_NAME
from tests.bench.inputs import Ingredients

_CHUNK = 2**20


def copy_seconds(ingredients: Ingredients, output_bytes: int, scratch: Path) -> float:
    """Return the seconds of reading all weights and writing `output_bytes`, by plain calls."""
    buffer = bytearray(_CHUNK)
    begin = time.perf_counter()
    for path in ingredients.paths:
        file = os.open(path / WEIGHTS_NAME, os.O_RDONLY)
        while os.readv(file, [buffer]):
            pass
        os.close(file)
    out = scratch / "floor"
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    left = output_bytes
    while left:
        left -= os.write(file, memoryview(buffer)[:left])
    os.close(file)
    seconds = time.perf_counter() - begin
    out.unlink()
    return seconds


def torch_cat_seconds(ingredients: Ingredients, scratch: Path) -> float:
    """Return the seconds of load, `torch.cat` and save by safetensors and torch, unweighted."""
    begin = time.perf_counter()
    loaded = [load_file(path / WEIGHTS_NAME) for path in ingredients.paths]
    joined = {
        name: torch.cat([tensors[name] for tensors in loaded], dim=0 if "lora_A" in name else 1)
        for name in loaded[0]
    }
    out = scratch / "cat.safetensors"
    save_file(joined, out)
    seconds = time.perf_counter() - begin
    out.unlink()
    return seconds
