"""Requirements of a method on the members of a module.

A plan checks every module before the merge, where members have names; a method checks its own
stack, so that a direct call refuses with the same error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from merge.errors import IncompatibleAdapters, RecipeInvalid
from merge.factors import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """Limits on the members of one module; the default is none."""

    members: int | None = None  # the largest number of members
    positive_weights: bool = False
    equal_ranks: bool = False
    last_has_every_module: bool = False  # checked by a plan: a stack has no absent members

    def check_stack(self, method: str, stack: Stack) -> None:
        """Raise unless the method can merge `stack`; messages name members by position."""
        names = [f"member {i}" for i in range(len(stack.members))]
        self.check(method, stack.module, names, stack.weights, stack.ranks)

    def check(
        self,
        method: str,
        module: str,
        names: Sequence[str],
        weights: Sequence[float],
        ranks: Sequence[int],
    ) -> None:
        """Raise unless the method can merge these members of a module.

        Raises:
            RecipeInvalid: too many members, or a weight that is not positive.
            IncompatibleAdapters: ranks differ.
        """
        if self.members is not None and len(names) > self.members:
            raise RecipeInvalid(
                f"{method} takes at most {self.members} adapters per module, not {len(names)}: "
                f"{', '.join(names)} have {module}"
            )
        for name, weight in zip(names, weights, strict=True):
            if self.positive_weights and weight <= 0.0:
                raise RecipeInvalid(
                    f"{method}: weights must be above 0, not {weight:g} ({name} in {module}); "
                    "linear takes negative ones"
                )
        for name, rank in zip(names, ranks, strict=True):
            if self.equal_ranks and rank != ranks[0]:
                raise IncompatibleAdapters(
                    f"{method} needs adapters of one rank: in {module}, {names[0]} has "
                    f"{ranks[0]} and {name} has {rank}; linear and average take any"
                )
