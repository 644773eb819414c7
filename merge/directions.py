"""Updates as vectors with a length and a direction, from their inner products alone.

Covered: norms and cosines of weighted updates. Not covered: sums of them, for which methods pass
coefficients to `linalg.truncated_sum`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from merge.factors import Stack
from merge.linalg import gram

Array = NDArray[np.float64]


class Directions(NamedTuple):
    """Lengths and angles of T vectors weight · update."""

    norms: Array  # (T,)
    cosines: Array  # (T, T), 1 on the diagonal, 0 beside a zero vector


def directions(stack: Stack) -> Directions:
    """Return the lengths of weight · update and the cosines between them, in float64.

    A negative weight turns a vector around; a zero vector has no direction, so its cosines are 0.
    """
    # From exact products: an angle near 0 is arccos of 1 - ε, which float32 rounds to 1.
    weights = np.asarray(stack.weights)  # (T,)
    products = gram(stack.members).cpu().numpy()  # (T, T)
    lengths = np.sqrt(products.diagonal().clip(min=0.0))  # rounding can leave less than 0
    pairs = np.outer(lengths, lengths)
    cosines = np.divide(products, pairs, out=np.zeros_like(products), where=pairs > 0.0)
    cosines = (cosines * np.outer(np.sign(weights), np.sign(weights))).clip(-1.0, 1.0)
    np.fill_diagonal(cosines, 1.0)
    return Directions(lengths * np.abs(weights), cosines)


def along(norms: Array, wanted: Array) -> Array:
    """Return the coefficients (T,) that make vectors of length `norms` have length `wanted`.

    A zero vector keeps the coefficient 0: it can have no other length.
    """
    return np.divide(wanted, norms, out=np.zeros_like(norms), where=norms > 0.0)
