"""A composition that is being drafted, as a value ⇄ the `composition` object of a request.

Covered: the form of the object, and its changes. Not covered: whether names, methods and options
exist, and the draft as an expression: both are the server's, whose grammar has no second parser.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

OptionValue: TypeAlias = str | bool | int | float | None
_MAX_JSON = 65_536
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class DraftInvalid(ValueError):
    """A text is no `composition` object; the message says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One adapter of a draft, with its weight and its weights by module pattern."""

    reference: str
    weight: float = 1.0
    patterns: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A composition as it is written. Changes return another draft."""

    method: str = "linear"
    ingredients: tuple[Ingredient, ...] = ()
    options: tuple[tuple[str, OptionValue], ...] = ()
    dtype: str | None = None
    base: str | None = None

    def add(self, reference: str) -> "Draft":
        """Return the draft with one more ingredient; one that it has is not added twice."""
        if any(part.reference == reference for part in self.ingredients):
            return self
        return replace(self, ingredients=(*self.ingredients, Ingredient(reference)))

    def remove(self, position: int) -> "Draft":
        """Return the draft without the ingredient at a position."""
        rest = self.ingredients[:position] + self.ingredients[position + 1 :]
        return replace(self, ingredients=rest)

    def move_up(self, position: int) -> "Draft":
        """Return the draft with an ingredient one place earlier: some methods read the order."""
        parts = list(self.ingredients)
        parts.insert(max(position - 1, 0), parts.pop(position))
        return replace(self, ingredients=tuple(parts))

    def weigh(self, position: int, weight: float) -> "Draft":
        """Return the draft with another weight of the ingredient at a position."""
        parts = list(self.ingredients)
        parts[position] = replace(parts[position], weight=weight)
        return replace(self, ingredients=tuple(parts))

    def use(self, method: str, options: frozenset[str]) -> "Draft":
        """Return the draft with another method; options that it does not have are dropped."""
        kept = tuple((name, value) for name, value in self.options if name in options)
        return replace(self, method=method, options=kept)

    def choose(self, option: str, value: OptionValue, default: OptionValue) -> "Draft":
        """Return the draft with another value of an option; its default is left out."""
        values = {**dict(self.options), option: value}
        if value == default and isinstance(value, bool) == isinstance(default, bool):
            del values[option]
        return replace(self, options=tuple(values.items()))


def document_of(draft: Draft) -> dict[str, object]:
    """Return a draft as the `composition` object of a request."""
    document = {
        "method": draft.method,
        "adapters": [
            {"name": part.reference, "weight": part.weight, "weights": dict(part.patterns)}
            for part in draft.ingredients
        ],
        "options": dict(draft.options), "dtype": draft.dtype, "base": draft.base,
    }  # fmt: skip
    written: dict[str, object] = _Document.model_validate(document).model_dump(
        exclude_defaults=True
    )
    return written


def write_draft(draft: Draft, *, indent: int | None = 2) -> str:
    """Return a draft as the JSON that `read_draft` reads."""
    return json.dumps(document_of(draft), indent=indent, ensure_ascii=False)


def draft_of(document: Mapping[str, object]) -> Draft:
    """Return the draft that a `composition` object says.

    Raises:
        DraftInvalid: with the place and what was expected there.
    """
    try:
        return _draft(_Document.model_validate(document))
    except ValidationError as error:
        raise _invalid(error) from error


def read_draft(text: str) -> Draft:
    """Return the draft that a `composition` object says as JSON.

    Raises:
        DraftInvalid: with the place and what was expected there.
    """
    if len(text) > _MAX_JSON:
        raise DraftInvalid(
            f"The JSON has {len(text):,} characters; at most {_MAX_JSON:,} are read."
        )
    try:
        return _draft(_Document.model_validate_json(text))
    except ValidationError as error:
        raise _invalid(error) from error


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Adapter(_Strict):
    name: str
    weight: _Finite = 1.0
    weights: dict[str, _Finite] = {}


class _Document(_Strict):
    method: str
    adapters: list[_Adapter]
    options: dict[str, str | bool | int | _Finite | None] = {}
    dtype: str | None = None
    base: str | None = None


def _draft(document: _Document) -> Draft:
    parts = tuple(
        Ingredient(part.name, part.weight, tuple(part.weights.items()))
        for part in document.adapters
    )
    options = tuple(document.options.items())
    return Draft(document.method, parts, options, document.dtype, document.base)


def _invalid(error: ValidationError) -> DraftInvalid:
    places = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()[:3]]
    told = "; ".join(f"{place}: {message}" if place else message for place, message in places)
    return DraftInvalid(f"Not a composition: {told}.")
