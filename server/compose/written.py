"""A stored recipe as an expression that `model` takes."""

import json
from collections.abc import Iterable, Sequence

from registry.references import parse_reference
from server.compose.expression import Expression, Term

_SHORT = 12  # digits of a digest, the fewest that name one


def expression_of(recipe: str, terms: Iterable[tuple[float, str]]) -> str:
    """Return a recipe as an expression with every option, without weights by pattern.

    Args:
        recipe: its canonical text.
        terms: weight and reference of each ingredient, in order.
    """
    document = json.loads(recipe)
    written = tuple(Term(weight, parse_reference(reference)) for weight, reference in terms)
    return str(Expression(document["method"], written, tuple(sorted(document["options"].items()))))


def reference_of(digest: str, versions: Sequence[str]) -> str:
    """Return how an expression names an ingredient: its first version, or its digest, shortened."""
    return versions[0] if versions else digest[:_SHORT]
