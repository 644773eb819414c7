"""An ingredient's weight: one number, and numbers that replace it in modules by pattern.

Covered: the weight in a module, and the check of weights. Not covered: their use by a method.
"""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from merge.errors import RecipeInvalid

Patterns: TypeAlias = tuple[tuple[str, float], ...]
"""Shell patterns (`*`, `?`, `[…]`) on whole module names, each with its weight."""

# Recipes come from untrusted clients. Patterns are matched against every module, names are looked
# up in a dict: hence a low limit on the former and a high one on the latter.
_MAX_PATTERNS = 64
_MAX_NAMES = 10_000
_MAX_LENGTH = 200
_WILD = frozenset("*?[")


def weight_in(module: str, weight: float, patterns: Patterns) -> float:
    """Return the weight in `module`: that of the last pattern that matches it, else `weight`."""
    ordered = _ordered(patterns)
    place, number = ordered.names.get(module, (-1, weight))
    for at, pattern, other in ordered.wild:
        if at < place:
            break
        if fnmatchcase(module, pattern):
            return other
    return number


class _Ordered(NamedTuple):
    names: Mapping[str, tuple[int, float]]  # plain names: place and weight of the last
    wild: tuple[tuple[int, str, float], ...]  # true patterns, the last first


# As many as a large merge has members. Bounded, since patterns of clients could fill the memory.
@lru_cache(maxsize=128)
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
        RecipeInvalid: there are no weights, one is not finite, all are zero, or patterns exceed
            the limits.
    """
    numbers: list[float] = []
    for weight, patterns in weights:
        numbers += [weight, *(number for _, number in patterns)]
        wild = sum(is_wild(pattern) for pattern, _ in patterns)
        if wild > _MAX_PATTERNS:
            raise RecipeInvalid(f"{wild} weight patterns: at most {_MAX_PATTERNS} an adapter")
        if len(patterns) > _MAX_NAMES:
            raise RecipeInvalid(
                f"{len(patterns)} weights by module: at most {_MAX_NAMES} an adapter"
            )
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
        raise RecipeInvalid("every weight is 0: give at least one adapter another")
