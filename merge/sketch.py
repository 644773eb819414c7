"""The weight embedding: a short vector per adapter whose dot products estimate ⟨ΔW_i, ΔW_j⟩.

A tensor sketch (Pham and Pagh, KDD 2013, "Fast and Scalable Polynomial Kernels via Explicit Feature
Maps", section 3.2): row j of `a` and column j of `b` are hashed into `SKETCH_DIM` buckets with
random signs, and the circular convolution of the two is the count sketch of their outer product,
which is not formed. A module so small that its product costs less than two Fourier transforms is
hashed as a product, into the same buckets with the same signs: the result is the same sketch. It is
linear in the update, so the sum over ranks and modules is the sketch of the adapter: it depends on
the products `b @ a`, not on their factors, and a missing module contributes zero.

The buckets depend on module name and width only, so any two adapters of a base can be compared,
also those sketched by different processes or machines. The error of an estimated cosine c has a
standard deviation of about (1 - c²) / √SKETCH_DIM ≤ 0.023, and up to √3 times that where all of an
update lies in one module of rank 1.
Not covered: storing and searching the vectors (the registry's). Needs numpy, not torch.
"""

import functools
import hashlib
import os
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from merge.peft_format import AdapterFolder, LoraModule, TensorEntry, decode_float32

# pgvector indexes at most 2000 dimensions; 2000 = 2⁴ · 5³ is also fast for a Fourier transform.
SKETCH_DIM = 2000
# Part of every seed. Only vectors under one name are comparable: change it with the algorithm.
SKETCH_NAME = "weft-sketch-1"
_BLOCK_ELEMENTS = 2**20
_SPECTRUM = SKETCH_DIM // 2 + 1
# Measured: two transforms take as long as hashing this many products.
_PRODUCTS_PER_RANK = 5000
# Llama-3.1-8B has 448 module sides, whose tables take 25 MB. Sides wider than `_WIDTH_KEPT` are an
# embedding's: one of them would take as much memory as all others, and is used once per adapter.
_TABLES_KEPT = 1024
_WIDTH_KEPT = 2**15


def sketch(folder: AdapterFolder) -> NDArray[np.float32]:
    """Return the sketch of an adapter's scaled update, (SKETCH_DIM,) float32.

    Its length estimates the Frobenius norm of the update. Memory is one module's factors in
    float32, some twenty megabytes, and the tables of the modules that were sketched last.

    Args:
        folder: an adapter whose numbers are finite, as the registry's admission ensures.

    Raises:
        OSError: the weights cannot be read or have become shorter.
    """
    # Two sums, one on each side of the transform: the inverse is taken once, not per module.
    spectrum = np.zeros(_SPECTRUM, np.complex128)
    whole = np.zeros(SKETCH_DIM)
    with folder.weights_path.open("rb") as file:
        for module in folder.modules.values():
            a = _read(file.fileno(), module.a)  # (rank, d_in)
            b = _read(file.fileno(), module.b)  # (d_out, rank)
            if module.d_out * module.d_in <= min(_PRODUCTS_PER_RANK * module.rank, _BLOCK_ELEMENTS):
                whole += module.scale * _of_product(module, a, b)
            else:
                spectrum += module.scale * _spectrum_of_factors(module, a, b)
    return (whole + np.fft.irfft(spectrum, SKETCH_DIM)).astype(np.float32)


def _of_product(
    module: LoraModule, a: NDArray[np.float32], b: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the sketch of `b @ a`, (SKETCH_DIM,) float64, from the dense product."""
    a_side = _buckets("a", module.name, module.d_in)
    b_side = _buckets("b", module.name, module.d_out)
    product = (b_side.signs[:, None] * b) @ (a * a_side.signs)
    # The bucket of a product is the sum of both, modulo SKETCH_DIM. Folding the upper half of 2
    # SKETCH_DIM bins afterwards is cheaper than a modulo per entry.
    buckets = b_side.places[:, None] + a_side.places
    sums = np.bincount(buckets.ravel(), product.ravel(), 2 * SKETCH_DIM).astype(np.float64)
    return sums[:SKETCH_DIM] + sums[SKETCH_DIM:]


def _spectrum_of_factors(
    module: LoraModule, a: NDArray[np.float32], b: NDArray[np.float32]
) -> NDArray[np.complex128]:
    """Return the Fourier transform of the sketch of `b @ a`, (_SPECTRUM,)."""
    a_side = _buckets("a", module.name, module.d_in)
    b_side = _buckets("b", module.name, module.d_out)
    spectrum = np.zeros(_SPECTRUM, np.complex128)
    for rows in _blocks(module):
        # A product of spectra is a convolution of sketches.
        spectrum += np.einsum("rf,rf->f", b_side.spectra(b[:, rows].T), a_side.spectra(a[rows]))
    return spectrum


def _blocks(module: LoraModule) -> Iterator[slice]:
    """Cut the rank so that a block of the wider factor stays near `_BLOCK_ELEMENTS` numbers."""
    step = max(1, _BLOCK_ELEMENTS // max(module.d_in, module.d_out, SKETCH_DIM))
    return (slice(start, start + step) for start in range(0, module.rank, step))


def _buckets(side: str, name: str, width: int) -> "_Buckets":
    """Return the buckets of one side of a module, from a cache for all but very wide sides."""
    make = _kept_buckets if width <= _WIDTH_KEPT else _Buckets
    return make(f"{side} {name}", width)


class _Buckets:
    """The bucket and the sign of each coordinate of one side of one module.

    Coordinates are shuffled and dealt out in turns, so that all buckets hold equally many: fewer
    collisions than with independent buckets. The shuffle sorts the raw output of PCG64, which NumPy
    keeps stable (NEP 19), unlike `Generator.permutation`: stored vectors stay comparable.
    """

    def __init__(self, side: str, width: int) -> None:
        self._width = width
        turns = -(-width // SKETCH_DIM)
        seed = hashlib.sha256(f"{SKETCH_NAME} {side} {width}".encode()).digest()
        raw = np.random.PCG64(int.from_bytes(seed, "little")).random_raw(turns * SKETCH_DIM)
        # Positions past the width are empty. A stable sort of 16 bits is a radix sort: linear time.
        order = np.argsort((raw >> np.uint64(48)).astype(np.uint16), kind="stable")
        self._order = order.astype(np.int32)
        self.signs = np.where(raw[:width] & np.uint64(1), 1.0, -1.0).astype(np.float32)

    @functools.cached_property
    def places(self) -> NDArray[np.int64]:
        """The bucket of each coordinate, (width,)."""
        places = np.empty(len(self._order), np.int64)
        places[self._order] = np.arange(len(self._order)) % SKETCH_DIM
        return places[: self._width].copy()

    def spectra(self, rows: NDArray[np.float32]) -> NDArray[np.complexfloating]:
        """Return the Fourier transform of each row's count sketch: (n, width) -> (n, _SPECTRUM)."""
        padded = np.zeros((len(rows), len(self._order)), np.float32)
        np.multiply(rows, self.signs, out=padded[:, : self._width])
        dealt = np.take(padded, self._order, axis=1).reshape(len(rows), -1, SKETCH_DIM)
        return np.fft.rfft(dealt.sum(axis=1), axis=1)


_kept_buckets = functools.lru_cache(_TABLES_KEPT)(_Buckets)


def _read(file: int, entry: TensorEntry) -> NDArray[np.float32]:
    data = os.pread(file, entry.end - entry.begin, entry.begin)
    if len(data) != entry.end - entry.begin:
        raise OSError(f"the weights file became shorter while {entry.name} was read")
    return decode_float32(data, entry.dtype).reshape(entry.shape)
