"""The values that merge methods take and return: factors of one module's update.

Shape letters, used in every docstring of this package:

    n      number of minimal semantic units (MSUs): row j of `a` with column j of `b`
    r      rank of one adapter in one module      R   sum of the members' ranks
    k      rank of a result                       T   number of members
    d_in   width that the module reads            d_out   width that it writes

Covered: one module. Not covered: files (`peft_io`) and whole adapters (`run`).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

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

    def balanced(self) -> "Factors":
        """Return the same update with √|scale| moved into each side, the sign into `b`."""
        root = math.sqrt(abs(self.scale))
        return Factors(self.a * root, self.b * math.copysign(root, self.scale))


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The members that have one module, in the recipe's order, with their weights (none is 0)."""

    module: str
    members: tuple[Factors, ...]  # T of them, one d_in and one d_out
    weights: tuple[float, ...]  # (T,)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The members' ranks, (T,)."""
        return tuple(member.rank for member in self.members)

    @property
    def total_rank(self) -> int:
        """The number of MSUs in the stack, R."""
        return sum(self.ranks)


class Merged(NamedTuple):
    """What a method returns for one module.

    The factors' scale is 1 and their rank is `MergeMethod.result_rank` of the members' ranks.
    `energy` is |result|² / |what the method approximates|², for methods that truncate.
    """

    factors: Factors
    energy: float | None = None
