"""The grid of weights: multiples of a step, and two digits below it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.compose.expression import Expression, parse_model
from server.compose.grid import on_grid, rounded


@pytest.mark.parametrize(
    ("number", "step", "expected"),
    [
        (0.701, 0.01, 0.7), (0.702, 0.01, 0.7), (-0.706, 0.01, -0.71), (1.0, 0.01, 1.0),
        (0.7, 0.01, 0.7), (3.0, 0.01, 3.0), (1234.567, 0.01, 1234.57), (0.37, 0.25, 0.25),
        (0.00123, 0.01, 0.0012), (-0.0099, 0.01, -0.0099), (0.0, 0.01, 0.0), (1e-300, 0.5, 1e-300),
        (0.7012345, 0.0, 0.7012345), (1e300, 0.01, 1e300), (0.1 + 0.2, 0.1, 0.3),
    ],
)  # fmt: skip
def test_a_number_is_on_the_grid(number: float, step: float, expected: float) -> None:
    """A number becomes the nearest multiple of the step, to the bit; tiny ones keep two digits."""
    assert expected == on_grid(number, step)


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.01, 0.05, 0.3, 1.0]))
def test_rounding_is_small_and_final(number: float, step: float) -> None:
    """Rounding moves a number by half a step at most, never to 0, and rounding again not at all."""
    result = on_grid(number, step)
    assert abs(result - number) <= step / 2 * (1 + 1e-12) + abs(number) * 1e-15
    assert (number == 0) == (result == 0)
    assert result == on_grid(result, step)


def test_weights_and_the_scale_are_rounded_and_nothing_else() -> None:
    """Weights and a scale are on the grid; other options are as they were written."""
    text = "dare_linear(0.504*a, -b@3; scale=1.333, density=0.333, seed=7)"
    expression = parse_model(text)
    assert isinstance(expression, Expression)
    written = "dare_linear(0.5*a, -b@3; scale=1.33, density=0.333, seed=7)"
    assert written == str(rounded(expression, 0.01))


@pytest.mark.parametrize(
    "text",
    [
        "linear(a, -b@prod, 2*team/c@3, 0.5*" + "3f" * 32 + ")",
        "lego(1e-07*a, -1e+20*b; rank=16, scale=match, canonical=true, energy=none)",
        'ties(a; density=0.2, majority="two words", basis="true")',
    ],
)
def test_an_expression_is_written_as_it_parses(text: str) -> None:
    """The text of an expression parses to the same expression."""
    expression = parse_model(text)
    assert expression == parse_model(str(expression))
