"""An ingredient's weight: one number, and numbers that replace it in modules by pattern.

Covered: what a weight is in a module, and which weights make sense. Not covered: what a method
does with them.
"""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from merge.errors import RecipeInvalid

Patterns: TypeAlias = tuple[tuple[str, float], ...]
"""Shell patterns (`*`, `?`, `[…]`) on whole module names, each with its weight."""

# Patterns are a stranger's and matched against every module; plain names are looked up.
_MAX_PATTERNS = 64
_MAX_NAMES = 10_000
_MAX_LENGTH = 200
_WILD = frozenset("*?[")


def weight_in(module: str, weight: float, patterns: Patterns) -> float:
    """Return the weight in `module`: that of the last pattern that matches it, else `weight`."""
    found = _ordered(patterns)
    place, number = found.names.get(module, (-1, weight))
    for at, pattern, other in found.wild:
        if at < place:
            break
        if fnmatchcase(module, pattern):
            return other
    return number


class _Ordered(NamedTuple):
    names: Mapping[str, tuple[int, float]]  # plain names: place and weight of the last
    wild: tuple[tuple[int, str, float], ...]  # true patterns, the last first


@lru_cache(maxsize=128)  # the members of a large merge, and no gigabytes of a stranger's names
def _ordered(patterns: Patterns) -> _Ordered:
    names, wild = {}, []
    for at, (pattern, number) in enumerate(patterns):
        if is_wild(pattern):
            wild.append((at, pattern, number))
        else:
            names[pattern] = (at, number)
    return _Ordered(names, tuple(reversed(wild)))


def is_wild(pattern: str) -> bool:
    """Whether a pattern can match more than the one name that it spells."""
    return not _WILD.isdisjoint(pattern)


def check_weights(weights: Iterable[tuple[float, Patterns]]) -> None:
    """Check the (weight, patterns) of all ingredients.

    Raises:
        RecipeInvalid: none at all, one that is not finite, all zero, or patterns beyond the limits.
    """
    numbers: list[float] = []
    for weight, patterns in weights:
        numbers += [weight, *(number for _, number in patterns)]
        wild = sum(is_wild(pattern) for pattern, _ in patterns)
        if wild > _MAX_PATTERNS:
            raise RecipeInvalid(f"{wild} weight patterns: at most {_MAX_PATTERNS}")
        if len(patterns) > _MAX_NAMES:
            raise RecipeInvalid(f"{len(patterns)} weights by module: at most {_MAX_NAMES}")
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
