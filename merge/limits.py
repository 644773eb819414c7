"""Limits on a merge that strangers ask for, checked before anything is read.

Covered: the checks and their messages. Not covered: the estimate (`cost`), and a merge's own limits
on its result (`run`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from merge.errors import LimitExceeded

if TYPE_CHECKING:
    from merge.methods.cost import Estimate  # it imports torch, and settings import this module


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest merge that is planned; None is no limit.

    `names` says what to raise in messages: the setting of each limit, by the field's name.
    """

    weight: float | None = None  # of |weight| and |scale|
    ingredients: int | None = None
    total_rank: int | None = None  # of all members, in any module
    nbytes: int | None = None  # as estimated
    seconds: float | None = None  # as estimated
    threads: int = 1  # of the merge that is estimated
    names: Mapping[str, str] = field(default_factory=dict)

    def check_numbers(self, what: str, numbers: Iterable[float]) -> None:
        """Raise LimitExceeded if the size of a weight or a scale is above the limit."""
        for number in numbers:
            self._check("weight", abs(number), f"{what} {number:g}", "sizes of up to")

    def check_members(self, count: int) -> None:
        """Raise LimitExceeded if there are too many ingredients."""
        self._check("ingredients", count, f"{count} ingredients", "at most")

    def check_ranks(self, ranks: Mapping[str, int]) -> None:
        """Raise LimitExceeded if the members' ranks add up to too much in a module."""
        module, total = max(ranks.items(), key=lambda item: item[1])
        what = f"the ingredients' ranks add up to {total} in {module}"
        self._check("total_rank", total, what, "at most")

    def check_estimate(self, estimate: "Estimate") -> None:
        """Raise LimitExceeded if the merge would take too much memory or time."""
        what = f"the merge may take {estimate.nbytes / 1e6:,.0f} MB of memory"
        self._check("nbytes", estimate.nbytes, what, "bytes: at most")
        what = f"the merge takes {estimate.seconds:,.0f} s or more"
        self._check("seconds", estimate.seconds, what, "seconds: at most")

    def _check(self, name: str, value: float, what: str, allowed: str) -> None:
        limit = getattr(self, name)
        if limit is not None and value > limit:
            setting = f" ({self.names[name]})" if name in self.names else ""
            raise LimitExceeded(
                f"{what}; this server allows {allowed} {limit:g}{setting}: use fewer or smaller "
                "ingredients, or lower options"
            )


UNLIMITED = Limits()
