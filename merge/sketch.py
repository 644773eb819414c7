"""The weight embedding: a short vector per adapter whose dot products estimate ⟨ΔW_i, ΔW_j⟩.

A tensor sketch (Pham and Pagh, KDD 2013, "Fast and Scalable Polynomial Kernels via Explicit Feature
Maps", section 3.2): row j of `a` and column j of `b` are each thrown into `SKETCH_DIM` buckets with
random signs, and the circular convolution of the two is the count sketch of their outer product,
which is never formed. Everything is linear in the update, so the sum over ranks and modules is the
sketch of the whole adapter: it depends on the products `b @ a` alone, not on how they are factored,
and a module that an adapter lacks counts as zero.

The buckets follow from module name and width only, so any two adapters of a base can be compared,
whenever and wherever they were sketched. The error of an estimated cosine c has a standard
deviation of about (1 - c²) / √SKETCH_DIM ≤ 0.023; it can reach √3 times that where all of an
update lies in one module of rank 1.
Not covered: where the vectors are kept and searched (the registry's). No torch: numpy alone.
"""

import hashlib
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from merge.peft_format import AdapterFolder, LoraModule, TensorEntry, decode_float32

# As many numbers as pgvector can index, and a length that a Fourier transform likes.
SKETCH_DIM = 2000
# Part of every seed. Vectors under one name can be compared; change it with the algorithm.
SKETCH_NAME = "weft-sketch-1"
_BLOCK_ELEMENTS = 2**20
_SPECTRUM = SKETCH_DIM // 2 + 1


def sketch(folder: AdapterFolder) -> NDArray[np.float32]:
    """Return the sketch of an adapter's scaled update, (SKETCH_DIM,) float32.

    Its length estimates the Frobenius norm of the update. Memory is one module's factors in
    float32 and a few megabytes.

    Args:
        folder: an adapter; its numbers must be finite (the registry's admission sees to that).

    Raises:
        OSError: the weights cannot be read or have become shorter.
    """
    spectrum = np.zeros(_SPECTRUM, np.complex128)
    with folder.weights_path.open("rb") as file:
        for module in folder.modules.values():
            spectrum += module.scale * _module_spectrum(file.fileno(), module)
    return np.fft.irfft(spectrum, SKETCH_DIM).astype(np.float32)


def _module_spectrum(file: int, module: LoraModule) -> NDArray[np.complex128]:
    """Return the Fourier transform of the sketch of `b @ a`, (_SPECTRUM,)."""
    a = _read(file, module.a)  # (rank, d_in)
    b = _read(file, module.b)  # (d_out, rank)
    a_buckets = _Buckets(f"a {module.name}", module.d_in)
    b_buckets = _Buckets(f"b {module.name}", module.d_out)
    spectrum = np.zeros(_SPECTRUM, np.complex128)
    for rows in _blocks(module):
        # A product of spectra is a convolution of sketches.
        spectrum += np.einsum(
            "rf,rf->f", b_buckets.spectra(b[:, rows].T), a_buckets.spectra(a[rows])
        )
    return spectrum


def _blocks(module: LoraModule) -> Iterator[slice]:
    """Cut the rank so that a block of the wider factor stays near `_BLOCK_ELEMENTS` numbers."""
    step = max(1, _BLOCK_ELEMENTS // max(module.d_in, module.d_out, SKETCH_DIM))
    return (slice(start, start + step) for start in range(0, module.rank, step))


class _Buckets:
    """Which coordinate of one side of one module falls into which bucket, and with which sign.

    Buckets are filled evenly: coordinates are shuffled and dealt out in turns. The shuffle sorts
    the raw output of PCG64, which NumPy keeps as it is (NEP 19), unlike `Generator.permutation`.
    """

    def __init__(self, side: str, width: int) -> None:
        self._width = width
        turns = -(-width // SKETCH_DIM)
        seed = hashlib.sha256(f"{SKETCH_NAME} {side} {width}".encode()).digest()
        raw = np.random.PCG64(int.from_bytes(seed, "little")).random_raw(turns * SKETCH_DIM)
        # Positions past the width are empty; 16 bits are sorted in linear time.
        self._order = np.argsort((raw >> np.uint64(48)).astype(np.uint16), kind="stable")
        self._signs = np.where(raw[:width] & np.uint64(1), 1.0, -1.0).astype(np.float32)

    def spectra(self, rows: NDArray[np.float32]) -> NDArray[np.complexfloating]:
        """Return the Fourier transform of each row's count sketch: (n, width) -> (n, _SPECTRUM)."""
        padded = np.zeros((len(rows), len(self._order)), np.float32)
        np.multiply(rows, self._signs, out=padded[:, : self._width])
        dealt = np.take(padded, self._order, axis=1).reshape(len(rows), -1, SKETCH_DIM)
        return np.fft.rfft(dealt.sum(axis=1), axis=1)


def _read(file: int, entry: TensorEntry) -> NDArray[np.float32]:
    data = os.pread(file, entry.end - entry.begin, entry.begin)
    if len(data) != entry.end - entry.begin:
        raise OSError(f"the weights file became shorter while {entry.name} was read")
    return decode_float32(data, entry.dtype).reshape(entry.shape)
