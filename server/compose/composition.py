"""The `composition` object of a request: an expression as JSON, with weights by module pattern.

Its keys are those of a recipe file (`merge.recipe_document`), with adapters by name only. The
field `model` is then absent or names the base.
Not covered: whether names, methods and options exist; that is checked in `resolve.py`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from merge.errors import DocumentInvalid
from registry.errors import ReferenceInvalid
from registry.references import Reference, parse_reference
from server.compose.expression import (
    Expression,
    ExpressionInvalid,
    OptionValue,
    Term,
    parse_model,
)

NAME = "composition"


class CompositionInvalid(ValueError):
    """The `composition` object is malformed, or `model` does not go with it.

    `param` is the place in the request, such as `composition.adapters[0].weight`.
    """

    def __init__(self, message: str, param: str = NAME) -> None:
        self.param = param
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Composition:
    """A `composition` object; its dtype and its base are None where it names none."""

    expression: Expression
    dtype: str | None = None
    base: str | None = None

    def __str__(self) -> str:
        """Return the expression that says the same, or the object as JSON where none does."""
        return self.as_expression() or json.dumps(self.to_json())

    def as_expression(self) -> str | None:
        """Return the expression that says the same; none has weights by pattern, or a dtype.

        The base is left out: it is that of the adapters.
        """
        by_pattern = any(term.patterns for term in self.expression.terms)
        return None if by_pattern or self.dtype else str(self.expression)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `read_composition` reads as this composition."""
        adapters = [
            {"name": str(term.reference), "weight": term.weight}
            | ({"weights": dict(term.patterns)} if term.patterns else {})
            for term in self.expression.terms
        ]
        own = {"method": self.expression.method, "adapters": adapters}
        beside = {
            "options": dict(self.expression.options), "dtype": self.dtype, "base": self.base,
        }  # fmt: skip
        return own | {key: value for key, value in beside.items() if value}


def read_composition(raw: bytes) -> Composition:
    """Return what a `composition` object says.

    Raises:
        CompositionInvalid: with the place, what was expected there, and what it holds.
    """
    from merge.recipe_document import read_document  # here: it imports torch

    try:
        document: Any = msgspec.json.decode(raw)
        written = read_document(document, folder=None, root=NAME)
    except DocumentInvalid as error:
        raise CompositionInvalid(str(error), error.place) from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise CompositionInvalid(f"{NAME}: not JSON: {error}") from error
    terms = tuple(
        Term(adapter.weight, _reference(str(adapter.name), place_of(i)), adapter.patterns)
        for i, adapter in enumerate(written.adapters)
    )
    # Binding the options has refused what is not text, a number, a boolean or null.
    options = cast("tuple[tuple[str, OptionValue], ...]", tuple(written.options.items()))
    dtype = written.dtype if "dtype" in document else None
    return Composition(Expression(written.method, terms, options), dtype, written.base)


def read_saved(text: str) -> Composition | None:
    """Return what the text of a saved composition says; None for a job's, which is prose."""
    if text.startswith("{"):
        return read_composition(text.encode())
    try:
        expression = parse_model(text)
    except ExpressionInvalid:
        return None
    return Composition(expression) if isinstance(expression, Expression) else None


def place_of(position: int) -> str:
    """Return the place of an adapter's name in a request."""
    return f"{NAME}.adapters[{position}].name"


@contextmanager
def blaming(param: str) -> Iterator[None]:
    """Let errors of a `with` block name this parameter of the request, unless they name one."""
    try:
        yield
    except Exception as error:
        vars(error).setdefault("param", param)
        raise


def _reference(text: str, place: str) -> Reference:
    try:
        return parse_reference(text)
    except ReferenceInvalid as error:
        raise CompositionInvalid(f"{place}: {error}", place) from error
