"""An ingredient's weight: one number, and numbers that replace it in modules by pattern.

Covered: what a weight is in a module, and which weights make sense. Not covered: what a method
does with them.
"""

import math
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TypeAlias

from merge.errors import RecipeInvalid

Patterns: TypeAlias = tuple[tuple[str, float], ...]
"""Shell patterns (`*`, `?`, `[…]`) on whole module names, each with its weight."""

# Patterns are a stranger's and matched against every module.
_MAX_PATTERNS = 64
_MAX_LENGTH = 200


def weight_in(module: str, weight: float, patterns: Patterns) -> float:
    """Return the weight in `module`: that of the last pattern that matches it, else `weight`."""
    for pattern, number in reversed(patterns):
        if fnmatchcase(module, pattern):
            return number
    return weight


def check_weights(weights: Iterable[tuple[float, Patterns]]) -> None:
    """Check the (weight, patterns) of all ingredients.

    Raises:
        RecipeInvalid: none at all, one that is not finite, all zero, or patterns beyond the limits.
    """
    numbers: list[float] = []
    for weight, patterns in weights:
        numbers += [weight, *(number for _, number in patterns)]
        if len(patterns) > _MAX_PATTERNS:
            raise RecipeInvalid(f"{len(patterns)} weight patterns: at most {_MAX_PATTERNS}")
        for pattern, _ in patterns:
            if not 0 < len(pattern) <= _MAX_LENGTH:
                raise RecipeInvalid(
                    f"weight pattern {pattern!r:.80}: 1 to {_MAX_LENGTH} characters, like '*.mlp.*'"
                )
    if not numbers:
        raise RecipeInvalid("nothing to merge: name at least one adapter")
    for number in numbers:
        if not math.isfinite(number):
            raise RecipeInvalid(f"weight {number} is not a finite number")
    if not any(numbers):
        raise RecipeInvalid("every weight is 0: at least one must not be")
