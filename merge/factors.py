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

    The scale stands apart from the tensors, so that a file's numbers are read exactly.
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


class Members(tuple[Factors, ...]):
    """T updates of one shape and, made once when first asked for, their MSUs side by side.

    The long matrices are worth touching few times: what can be said with the Gram matrices is.
    """

    @classmethod
    def of(cls, updates: Iterable[Factors]) -> "Members":
        """Return `updates` as members; members themselves come back as they are."""
        return updates if isinstance(updates, Members) else cls(updates)

    @classmethod
    def joined(cls, a: Tensor, b: Tensor, parts: Iterable[tuple[int, float]]) -> "Members":
        """Return the members whose MSUs lie side by side already, as views.

        Args:
            a: (R, d_in) float32.
            b: (d_out, R) float32.
            parts: (rank, scale) of each member; the ranks add up to R.
        """
        views, begin = [], 0
        for rank, scale in parts:
            end = begin + rank
            views.append(Factors(a[begin:end], b[:, begin:end], scale))
            begin = end
        members = cls(views)
        members.__dict__.update(a=a, b=b)
        return members

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
        """The inner products, from float32 matrix products: good to 1e-6 of the MSUs' lengths."""
        return self.exact_grams if "exact_grams" in self.__dict__ else Grams(*self._grams(False))

    @cached_property
    def exact_grams(self) -> Grams:
        """The inner products in float64, at two and a half times the cost."""
        return Grams(*self._grams(True))

    def _grams(self, exact: bool) -> tuple[Tensor, Tensor]:
        return gram_of_rows(self.a, exact=exact), gram_of_rows(self.b.mT, exact=exact)


# Products outside these bounds have lost float32's accuracy, or are zero or infinite.
LEAST_SQUARE, LARGEST_SQUARE = 1e-25, 1e30


def gram_of_rows(x: Tensor, *, exact: bool) -> Tensor:
    """Return x xᵀ, (n, n) float64 on the CPU, for x (n, d) float32.

    Args:
        x: on any device.
        exact: whether to multiply in float64. So are rows whose squares float32 cannot hold.
    """
    wide = x.double() if exact else x
    gram = (wide @ wide.mT).double().cpu()
    if not exact and len(gram):
        low, high = torch.aminmax(gram.diagonal())
        if not (float(low) > LEAST_SQUARE and float(high) < LARGEST_SQUARE):
            return gram_of_rows(x, exact=True)
    return (gram + gram.mT) / 2


def inner_of_rows(x: Tensor, y: Tensor) -> Tensor:
    """Return x yᵀ, (n, m) float64 on the CPU, for x (n, d) and y (m, d) float32.

    Multiplied in float32, but in float64 where the largest product shows that it would not do.
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
    members: tuple[Factors, ...]  # T of them, one d_in and one d_out; `Members` once in here
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
    """How a result was mixed from members' MSUs: a = left @ all rows, b = all columns @ right.

    Where a method can tell it, its result is measured without touching long vectors again.
    """

    left: Tensor  # (k, R) float64 on the CPU
    right: Tensor  # (R, k)
    members: Members  # whose MSUs they are; of use to a stack only if they are its own


class Merged(NamedTuple):
    """What a method returns for one module.

    The factors' scale is 1 and their rank is `MergeMethod.result_rank` of the members' ranks, or
    less where an option asks for the smallest rank that keeps some energy.
    `energy` is |result|² / |what the method approximates|², for methods that truncate.
    """

    factors: Factors
    energy: float | None = None
    mix: Mix | None = None
