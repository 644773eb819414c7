"""The values that merge methods take and return: factors of one module's update.

Shape letters, used in every docstring of this package:

    n      number of minimal semantic units (MSUs): row j of `a` with column j of `b`
    r      rank of one adapter in one module      R   sum of the members' ranks
    k      rank of a result                       T   number of members
    d_in   width that the module reads            d_out   width that it writes

Covered: one module. Not covered: files (`peft_io`) and whole adapters (`run`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """One module's low-rank update: `scale * b @ a`, of shape (d_out, d_in).

    The scale is kept apart from the tensors, so that reading a file rounds nothing.
    """

    a: Tensor  # (r, d_in) float32
    b: Tensor  # (d_out, r) float32
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """The number of MSUs r."""
        return int(self.a.shape[0])

    def folded(self) -> "Factors":
        """Return the same update with the scale moved into `b`."""
        return Factors(self.a, self.b * self.scale)

    def transposed(self) -> "Factors":
        """Return the transposed update, of shape (d_in, d_out)."""
        return Factors(self.b.mT.contiguous(), self.a.mT.contiguous(), self.scale)

    def balanced(self) -> "Factors":
        """Return the same update with √|scale| moved into each side, the sign into `b`."""
        root = math.sqrt(abs(self.scale))
        return Factors(self.a * root, self.b * math.copysign(root, self.scale))


class Grams(NamedTuple):
    """Inner products of all MSUs of a stack, (R, R) float64 on the CPU; scales stay apart."""

    a: Tensor  # of rows of `a`
    b: Tensor  # of columns of `b`


class Stored(NamedTuple):
    """Numbers as files hold them, bfloat16 or float16, that float32 tensors are widened from."""

    a: Tensor | None
    b: Tensor | None


class Members(tuple[Factors, ...]):
    """T updates of one shape, with their MSUs side by side and those MSUs' inner products.

    `a`, `b`, `grams` and `exact_grams` are computed at first use and kept.
    """

    stored: Stored | None = None
    """The files' numbers that `a` and `b` are widened from, where all have one narrow dtype."""

    # Why the cache: reading (R, d) factors from memory costs more than all work on (R, R) matrices,
    # so a method and its measure share one pass over the long vectors.

    @classmethod
    def of(cls, updates: Iterable[Factors]) -> "Members":
        """Return `updates` as members; a `Members` comes back itself, with its cache."""
        return updates if isinstance(updates, Members) else cls(updates)

    @classmethod
    def joined(cls, a: Tensor, b: Tensor, parts: Iterable[tuple[int, float]]) -> "Members":
        """Return members as views of tensors that already hold their MSUs side by side.

        Args:
            a: (R, d_in) float32, or as files hold it; then the members have its widening.
            b: (d_out, R) of the same dtype.
            parts: (rank, scale) of each member; the ranks add up to R.
        """
        stored = None if a.dtype == torch.float32 else Stored(a, b)
        a, b = a.float(), b.float()
        views, begin = [], 0
        for rank, scale in parts:
            end = begin + rank
            views.append(Factors(a[begin:end], b[:, begin:end], scale))
            begin = end
        members = cls(views)
        # Fills the cached properties: concatenating the views again would copy what was just read.
        members.__dict__.update(a=a, b=b, stored=stored)
        return members

    def stored_of(self, factors: Factors) -> Stored:
        """Return the files' numbers of factors that are the members' own `a` or `b`."""
        a, b = self.stored or (None, None)
        return Stored(a if factors.a is self.a else None, b if factors.b is self.b else None)

    @cached_property
    def a(self) -> Tensor:
        """All rows, (R, d_in) float32."""
        return torch.cat([member.a for member in self])

    @cached_property
    def b(self) -> Tensor:
        """All columns, (d_out, R) float32."""
        return torch.cat([member.b for member in self], dim=1)

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """The members' ranks, (T,)."""
        return tuple(member.rank for member in self)

    def spread(self, values: Iterable[float]) -> Tensor:
        """Return one number per MSU, (R,) float64 on the CPU, from one number per member."""
        numbers = torch.tensor([float(value) for value in values], dtype=torch.float64)
        return numbers.repeat_interleave(torch.tensor(self.ranks))

    @cached_property
    def grams(self) -> Grams:
        """The inner products, from float32 matrix products: good to 1e-6 of the MSUs' lengths.

        Enough where MSUs are far from parallel, which `linalg` and `basis` check before they rely
        on it; otherwise they use `exact_grams`.
        """
        return self.exact_grams if "exact_grams" in self.__dict__ else Grams(*self._grams(False))

    @cached_property
    def exact_grams(self) -> Grams:
        """The inner products in float64, at two and a half times the cost."""
        return Grams(*self._grams(True))

    def _grams(self, exact: bool) -> tuple[Tensor, Tensor]:
        return gram_of_rows(self.a, exact=exact), gram_of_rows(self.b.mT, exact=exact)


# Squares of vectors, in float32. The smallest normal number is 1.2e-38 and sums of 1e4 terms are
# taken: below 1e-25 terms of less than the mean size become denormal and lose digits; above 1e30 a
# sum can overflow to infinity. Inside the bounds the relative error is that of float32.
LEAST_SQUARE, LARGEST_SQUARE = 1e-25, 1e30


def gram_of_rows(x: Tensor, *, exact: bool) -> Tensor:
    """Return x xᵀ, (n, n) float64 on the CPU, for x (n, d) float32.

    Args:
        x: on any device.
        exact: whether to multiply in float64. If not, float64 is used only where a row's square
            leaves the range in which float32 is accurate.
    """
    wide = x.double() if exact else x
    # The result is float64 and on the CPU in either case: what follows (eigenvectors, Cholesky) is
    # (n, n), where float64 costs nothing, LAPACK is faster than a GPU, and cancellation is common.
    gram = (wide @ wide.mT).double().cpu()
    if not exact and len(gram):
        low, high = torch.aminmax(gram.diagonal())
        if not (float(low) > LEAST_SQUARE and float(high) < LARGEST_SQUARE):
            return gram_of_rows(x, exact=True)
    # Blocked products round the two halves differently; eigh reads one half, sums read both.
    return (gram + gram.mT) / 2


def inner_of_rows(x: Tensor, y: Tensor) -> Tensor:
    """Return x yᵀ, (n, m) float64 on the CPU, for x (n, d) and y (m, d) float32.

    Multiplied in float32, or in float64 where the largest product is outside float32's accurate
    range.
    """
    products = x @ y.mT
    largest = float(products.abs().max()) if products.numel() else 0.0
    if not LEAST_SQUARE < largest < LARGEST_SQUARE and largest != 0.0:
        products = x.double() @ y.double().mT
    return products.double().cpu()


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The members that have one module, in the recipe's order, with their weights (none is 0)."""

    module: str
    members: tuple[Factors, ...]  # T of one d_in and one d_out; converted to `Members`
    weights: tuple[float, ...]  # (T,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", Members.of(self.members))

    @property
    def ranks(self) -> tuple[int, ...]:
        """The members' ranks, (T,)."""
        return tuple(member.rank for member in self.members)

    @property
    def total_rank(self) -> int:
        """The number of MSUs in the stack, R."""
        return sum(self.ranks)


class Mix(NamedTuple):
    """A result as a linear combination of MSUs: a = left @ all rows, b = all columns @ right.

    A method that returns it lets `measure` work on (R, R) matrices instead of the long vectors.
    """

    left: Tensor  # (k, R) float64 on the CPU
    right: Tensor  # (R, k)
    members: Members  # that have these MSUs; `measure` uses a mix only of the stack's own members


class Merged(NamedTuple):
    """The return value of a method, for one module.

    Attributes:
        factors: of scale 1. The rank is `MergeMethod.result_rank` of the members' ranks, or less
            where an option asks for the smallest rank that keeps some energy.
        energy: |result|² / |what the method approximates|², for methods that truncate.
        mix: the factors as combinations of the members' MSUs, if the method has them.
    """

    factors: Factors
    energy: float | None = None
    mix: Mix | None = None
