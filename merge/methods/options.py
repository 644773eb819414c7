"""Kinds of options: the annotations of a method's keywords, and the values that they accept.

A value is text (an expression, the command line) or a JSON number, boolean or null; both forms of a
value are parsed to the same result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

Value: TypeAlias = bool | int | float | str | None

Rank: TypeAlias = Annotated[int, "rank"]
"""An integer of at least 1; a request may have "auto", which `plan` replaces by a number."""
Seed: TypeAlias = Annotated[int, "seed"]
"""An integer from 0 to 2⁶³ - 1."""
Ratio: TypeAlias = Annotated[float, "ratio"]
"""A number in (0, 1]."""
Share: TypeAlias = Annotated[float, "share"]
"""A number in [0, 1]."""
Count: TypeAlias = Annotated[int, "count"]
"""An integer from 1 to 1000: repetitions of work, bounded since requests are untrusted."""
Positive: TypeAlias = Annotated[float, "positive"]
"""A finite number above 0."""

AUTO = "auto"
"""The value of `rank` until `plan` decides it."""
MATCH = "match"
"""The value of `scale` for the factor that gives the result its ingredients' mean norm."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of option: `parse` returns the value or raises ValueError; `accepts` explains."""

    name: str
    accepts: str
    parse: Callable[[object], Value]


def kind_of(annotation: object) -> Kind | None:
    """Return the kind of an annotation, or None for an annotation without a kind."""
    if get_origin(annotation) is Literal:
        return _choice(get_args(annotation))
    if get_origin(annotation) in (UnionType, Union):
        return _optional(get_args(annotation))
    for known, kind in _KINDS:
        if annotation == known:
            return kind
    return None


def _choice(choices: tuple[Any, ...]) -> Kind | None:
    if not all(isinstance(choice, str) for choice in choices):
        return None

    def parse(raw: object) -> str:
        if isinstance(raw, str) and raw in choices:
            return raw
        raise ValueError

    return Kind("choice", f"one of {', '.join(choices)}", parse)


def _optional(members: tuple[Any, ...]) -> Kind | None:
    inner = kind_of(members[0])
    if len(members) != 2 or members[1] is not NoneType or inner is None:
        return None

    def parse(raw: object) -> Value:
        if raw is None or (isinstance(raw, str) and raw.lower() in ("none", "null")):
            return None
        return inner.parse(raw)

    return Kind(f"{inner.name} or none", f"{inner.accepts}, or none", parse)


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise ValueError
    value = float(raw)
    if not math.isfinite(value):
        raise ValueError
    return value + 0.0  # -0.0 and 0.0 are one option


def _integer(raw: object) -> int:
    if isinstance(raw, str):
        return int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float) or raw != int(raw):
        raise ValueError
    return int(raw)


def _truth(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in ("true", "false"):
        return raw.lower() == "true"
    raise ValueError


def _rank(raw: object) -> int | str:
    return AUTO if raw == AUTO else _within(_integer(raw), 1, 2**31)


def _within(value: int, low: int, end: int) -> int:
    if not low <= value < end:
        raise ValueError
    return value


def _ratio(raw: object) -> float:
    value = _number(raw)
    if not 0.0 < value <= 1.0:
        raise ValueError
    return value


def _share(raw: object) -> float:
    value = _number(raw)
    if not 0.0 <= value <= 1.0:
        raise ValueError
    return value


def _positive(raw: object) -> float:
    value = _number(raw)
    if value <= 0.0:
        raise ValueError
    return value


def _scale(raw: object) -> float | str:
    if raw == MATCH:
        return MATCH
    value = _number(raw)
    if value == 0.0:
        raise ValueError
    return value


def _equalise(raw: object) -> str | None:
    if raw is None or (isinstance(raw, str) and raw.lower() in ("none", "null")):
        return None
    if raw == "norm":
        return "norm"
    raise ValueError


EQUALISE = Kind("equalise", "norm, or none", _equalise)
SCALE = Kind("scale", f"a finite number other than 0, or {MATCH}", _scale)
_KINDS: tuple[tuple[object, Kind], ...] = (
    (Rank, Kind("rank", "an integer of at least 1, or auto", _rank)),
    (
        Seed,
        Kind("seed", "an integer from 0 to 2^63 - 1", lambda raw: _within(_integer(raw), 0, 2**63)),
    ),
    (
        Count,
        Kind("count", "an integer from 1 to 1000", lambda raw: _within(_integer(raw), 1, 1001)),
    ),
    (Ratio, Kind("ratio", "a number above 0 and at most 1", _ratio)),
    (Share, Kind("share", "a number from 0 to 1", _share)),
    (Positive, Kind("positive", "a finite number above 0", _positive)),
    (float, Kind("number", "a finite number", _number)),
    (int, Kind("integer", "an integer", _integer)),
    (bool, Kind("truth value", "true or false", _truth)),
)
