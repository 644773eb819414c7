"""A stored recipe as an expression that `model` takes."""

import json
from collections.abc import Iterable, Sequence

_SHORT = 12  # digits of a digest, the fewest that name one


def expression_of(recipe: str, terms: Iterable[tuple[float, str]]) -> str:
    """Return a recipe as an expression with every option.

    Args:
        recipe: its canonical text.
        terms: weight and reference of each ingredient, in order.
    """
    document = json.loads(recipe)
    items = [reference if w == 1.0 else f"{_number(w)}*{reference}" for w, reference in terms]
    options = [f"{name}={_option(value)}" for name, value in sorted(document["options"].items())]
    return f"{document['method']}({', '.join(items)}{'; ' if options else ''}{', '.join(options)})"


def reference_of(digest: str, versions: Sequence[str]) -> str:
    """Return how an expression names an ingredient: its first version, or its digest, shortened."""
    return versions[0] if versions else digest[:_SHORT]


def _number(weight: float) -> str:
    return str(int(weight)) if weight.is_integer() and abs(weight) < 1e6 else repr(weight)


def _option(value: object) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)
