"""The norms of one module's factors as they are written, after the cast.

A gate that judges numbers from before the cast can be walked around: where weights cancel, the
update that is left is the rounding of the cast. Not covered: the limits (`run`).
"""

import math
from dataclasses import dataclass

import torch

from merge.factors import Factors, Grams, Members, gram_of_rows

# A sum of float32 products is good to 1e-6 of its terms' sizes, so down to this share of them the
# norm is good to 1e-4; in float64, down to the second.
_CANCELS, _CANCELS_EXACTLY = 1e-2, 1e-8
_EPSILON = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """One module as a file holds it: float32 copies of the cast factors, and their norms."""

    factors: Factors  # of scale 1
    square: float  # |b a|²
    norm_a: float
    norm_b: float
    cancels: bool  # whether MSUs cancel so far that only float64 gives the norm

    @classmethod
    def of(cls, factors: Factors, members: Members | None = None) -> "Written":
        """Measure factors of scale 1, whose numbers are finite.

        Where `a` is the members' own, their inner products serve.
        """
        if members is not None and factors.a is members.a:
            gram_a = members.grams.a
        else:
            gram_a = gram_of_rows(factors.a, exact=False)
        grams = Grams(gram_a, gram_of_rows(factors.b.mT, exact=False))
        square, size = _sum(grams)
        cancels = not square >= _CANCELS * size
        if cancels:
            grams = Grams(*(gram_of_rows(x, exact=True) for x in (factors.a, factors.b.mT)))
            square, size = _sum(grams)
            if not square >= _CANCELS_EXACTLY * size:
                square = _by_qr(factors)
        norm_a, norm_b = (math.sqrt(float(gram.diagonal().sum())) for gram in grams)
        return cls(factors, square, norm_a, norm_b, cancels)


def _sum(grams: Grams) -> tuple[float, float]:
    """Return |b a|² as the sum over pairs of MSUs, and the sum of the terms' sizes."""
    terms = grams.a * grams.b
    return float(terms.sum()), float(terms.abs().sum())


def _by_qr(factors: Factors) -> float:
    """Return |b a|² from triangular factors, which keeps the digits that Gram matrices lose."""
    upper_a = torch.linalg.qr(factors.a.double().mT, mode="r").R.cpu()
    upper_b = torch.linalg.qr(factors.b.double(), mode="r").R.cpu()
    norm = float((upper_b @ upper_a.mT).norm())
    rounding = factors.rank * _EPSILON * float(upper_a.norm() * upper_b.norm())
    return norm * norm if norm > rounding else 0.0
