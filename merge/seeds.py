"""Randomness as an argument: one generator per module, from the recipe's seed and its name."""

import hashlib

import torch


def generator_for(seed: int, module: str) -> torch.Generator:
    """Return the CPU generator of `module`: the same whatever was drawn for other modules before.

    The 63-bit state is the head of SHA-256 over both, so neighbouring seeds are unrelated and
    nothing depends on Python's per-process string hashing.
    """
    digest = hashlib.sha256(f"{seed}\0{module}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
