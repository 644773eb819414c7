"""The Frobenius norm of a scaled update, computed from a file without forming the update.

‖s·B·A‖² = s² · tr((BᵀB)(AAᵀ)), so only two (rank, rank) matrices are kept. Memory is one module's
stored factors plus a few megabytes. Not covered: the limits of norms (`registry.admission.admit`).
"""

import math
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from merge.peft_format import DTYPE_BYTES, TensorEntry, decode_float32

_BLOCK_ELEMENTS = 2**20


class NotFiniteError(ValueError):
    """A tensor holds NaN or infinity; `tensor` is its name."""

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor
        super().__init__(f"{tensor} holds NaN or infinity")


class PairNorms(NamedTuple):
    """Frobenius norms of a module's factors and of their product, before the scale."""

    product: float
    a: float
    b: float


def pair_norms(file: int, a: TensorEntry, b: TensorEntry) -> PairNorms:
    """Return the norms of `a`, `b` and `b @ a`, in float64; the caller multiplies by the scale.

    Args:
        file: the descriptor of the weights file.
        a: the entry of the (rank, d_in) factor.
        b: the entry of the (d_out, rank) factor.

    Raises:
        NotFiniteError: a factor holds NaN or infinity; the error names the first one.
        OSError: the file cannot be read or was truncated.
    """
    a_gram = _gram(_read(file, a).T, a)  # (rank, rank), A Aᵀ
    b_gram = _gram(_read(file, b), b)  # (rank, rank), Bᵀ B
    # The trace of a product of symmetric matrices; rounding may make it slightly negative. The
    # rounding is 1e-15 of |a|²|b|², so the product's norm means something only under a limit on
    # those of the factors.
    product = math.sqrt(max(0.0, float(np.vdot(a_gram, b_gram))))
    norm_a, norm_b = (math.sqrt(float(np.trace(gram))) for gram in (a_gram, b_gram))
    return PairNorms(product, norm_a, norm_b)


def _read(file: int, entry: TensorEntry) -> NDArray[np.uint32] | NDArray[np.uint16]:
    """Return the stored bits of a tensor in its shape."""
    data = os.pread(file, entry.end - entry.begin, entry.begin)
    if len(data) != entry.end - entry.begin:
        raise OSError(f"the weights file was truncated while {entry.name} was read")
    bits: NDArray[np.uint32] | NDArray[np.uint16] = np.frombuffer(
        data, dtype="<u4" if DTYPE_BYTES[entry.dtype] == 4 else "<u2"
    ).reshape(entry.shape)
    return bits


def _gram(tall: NDArray[np.uint32] | NDArray[np.uint16], entry: TensorEntry) -> NDArray[np.float64]:
    """Return tallᵀ @ tall of stored bits (length, rank) as (rank, rank) float64."""
    length, rank = tall.shape
    gram = np.zeros((rank, rank))
    rows = max(1, _BLOCK_ELEMENTS // rank)
    # Squares of float32 cannot overflow float64, so only NaN and infinity make a square non-finite.
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, length, rows):
            bits = np.ascontiguousarray(tall[start : start + rows])
            block = decode_float32(bits.tobytes(), entry.dtype).reshape(-1, rank).astype(np.float64)
            gram += block.T @ block
    if not np.isfinite(gram.diagonal()).all():
        raise NotFiniteError(entry.name)
    return gram
