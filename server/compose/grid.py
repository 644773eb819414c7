"""The grid of weights in requests: nearly equal weights are one recipe, one merge and one slot.

Not covered: saved compositions, recipe files and the command line, whose weights are exact.
"""

from dataclasses import replace
from decimal import Decimal

from server.compose.expression import Expression, Term

_SCALE = "scale"


def on_grid(number: float, step: float) -> float:
    """Return the nearest multiple of `step`, or two significant digits below one step.

    No number other than 0 becomes 0. With the step 0, numbers are returned as they are.
    """
    if step == 0 or number == 0:
        return number
    # Decimals: 70 · 0.01 is 0.7000000000000001 in floats, which is another recipe than 0.7.
    exact, grid = Decimal(repr(number)), Decimal(repr(step))
    if abs(exact) < grid:
        grid = Decimal(1).scaleb(exact.adjusted() - 1)
    return float((exact / grid).to_integral_value() * grid)


def rounded(expression: Expression, step: float) -> Expression:
    """Return the expression with its weights and its scale on the grid."""
    return replace(
        expression,
        terms=tuple(_rounded(term, step) for term in expression.terms),
        options=tuple(
            (name, on_grid(value, step) if name == _SCALE and isinstance(value, float) else value)
            for name, value in expression.options
        ),
    )


def _rounded(term: Term, step: float) -> Term:
    patterns = tuple((pattern, on_grid(weight, step)) for pattern, weight in term.patterns)
    return Term(on_grid(term.weight, step), term.reference, patterns)
