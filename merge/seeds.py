"""Generators for draws: one per module, seeded by the recipe's seed and the module's name."""

import hashlib

import torch


def generator_for(seed: int, module: str) -> torch.Generator:
    """Return the CPU generator of `module`; other modules' draws do not change its state.

    The 63-bit seed is the head of SHA-256 over both, so the streams of neighbouring seeds are
    unrelated, and nothing depends on Python's per-process string hashing.
    """
    digest = hashlib.sha256(f"{seed}\0{module}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
