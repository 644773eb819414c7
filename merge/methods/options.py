"""Kinds of options: the annotations of a method's keywords, and the values that they accept.

A value is text (an expression, the command line) or a JSON number, boolean or null; both forms of a
value are parsed to the same result.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
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
NONE = "none"
"""The word for the value None."""


ValueType = Literal["integer", "number", "boolean", "choice", "text", "list", "object"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What an option accepts: as a sentence, and as the parts that a form to fill in is made of."""

    type: ValueType
    accepts: str
    choices: tuple[str, ...] = ()  # all values of a choice
    words: tuple[str, ...] = ()  # accepted beside values of the type; "none" is also None
    minimum: float | None = None
    above_minimum: bool = False  # whether the minimum itself is refused
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of option: `parse` returns the value or raises ValueError; `form` explains."""

    name: str
    form: Form
    parse: Callable[[object], Value]

    @property
    def accepts(self) -> str:
        """What `parse` accepts, as a part of a sentence."""
        return self.form.accepts


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

    form = Form(type="choice", accepts=f"one of {', '.join(choices)}", choices=choices)
    return Kind("choice", form, parse)


def _optional(members: tuple[Any, ...]) -> Kind | None:
    inner = kind_of(members[0])
    if len(members) != 2 or members[1] is not NoneType or inner is None:
        return None

    def parse(raw: object) -> Value:
        if raw is None or (isinstance(raw, str) and raw.lower() in (NONE, "null")):
            return None
        return inner.parse(raw)

    form = replace(inner.form, accepts=f"{inner.accepts}, or none", words=(*inner.form.words, NONE))
    return Kind(f"{inner.name} or none", form, parse)


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
    if raw is None or (isinstance(raw, str) and raw.lower() in (NONE, "null")):
        return None
    if raw == "norm":
        return "norm"
    raise ValueError


EQUALISE = Kind(
    "equalise",
    Form(type="choice", accepts="norm, or none", choices=("norm",), words=(NONE,)),
    _equalise,
)
SCALE = Kind(
    "scale",
    Form(type="number", accepts=f"a finite number other than 0, or {MATCH}", words=(MATCH,)),
    _scale,
)
_KINDS: tuple[tuple[object, Kind], ...] = (
    (
        Rank,
        Kind(
            "rank",
            Form(
                type="integer",
                accepts="an integer of at least 1, or auto",
                words=(AUTO,),
                minimum=1,
                maximum=2**31 - 1,
            ),
            _rank,
        ),
    ),
    (
        Seed,
        Kind(
            "seed",
            Form(type="integer", accepts="an integer from 0 to 2^63 - 1", minimum=0),
            lambda raw: _within(_integer(raw), 0, 2**63),
        ),
    ),
    (
        Count,
        Kind(
            "count",
            Form(type="integer", accepts="an integer from 1 to 1000", minimum=1, maximum=1000),
            lambda raw: _within(_integer(raw), 1, 1001),
        ),
    ),
    (
        Ratio,
        Kind(
            "ratio",
            Form(
                type="number",
                accepts="a number above 0 and at most 1",
                minimum=0,
                above_minimum=True,
                maximum=1,
            ),
            _ratio,
        ),
    ),
    (
        Share,
        Kind(
            "share",
            Form(type="number", accepts="a number from 0 to 1", minimum=0, maximum=1),
            _share,
        ),
    ),
    (
        Positive,
        Kind(
            "positive",
            Form(type="number", accepts="a finite number above 0", minimum=0, above_minimum=True),
            _positive,
        ),
    ),
    (float, Kind("number", Form(type="number", accepts="a finite number"), _number)),
    (int, Kind("integer", Form(type="integer", accepts="an integer"), _integer)),
    (bool, Kind("truth value", Form(type="boolean", accepts="true or false"), _truth)),
)
