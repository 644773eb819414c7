"""The search for one scale ends near the minimum, whatever the shape of the valley."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.adaptive.methods.scale import COARSE, EVALUATIONS, ROUNDS, search_scale
from merge.adaptive.training import LossNotFinite

FINEST = 2.0 ** (0.5**ROUNDS)  # the last step


@settings(deadline=None)
@given(st.floats(COARSE[0], COARSE[-1]), st.floats(0.1, 10.0), st.floats(0.5, 3.0))
def test_the_minimum_of_a_valley_is_found(lowest: float, left: float, right: float) -> None:
    """For a loss with one valley, the scale found is within the last step of the minimum, however
    lopsided the valley is."""

    def loss(scale: float) -> float:
        way = math.log(scale / lowest)
        return 2.0 + (left if way < 0 else right) * way * way

    found = search_scale(loss)

    assert abs(math.log(found.scale / lowest)) <= math.log(FINEST) * 1.001


def test_the_unscaled_merge_is_among_those_tried() -> None:
    """The search tries scale 1, so its result is never worse; the first of equal losses wins."""
    found = search_scale(lambda scale: abs(scale - 1.0))

    assert (1.0, 0.0) == (found.scale, found.loss)
    assert COARSE[0] == search_scale(lambda _: 3.0).scale


def test_everything_that_was_tried_is_told() -> None:
    """Each loss is reported when it is measured, and the result lists all of them in order."""
    told: list[tuple[int, float]] = []
    found = search_scale(lambda scale: (scale - 3.0) ** 2, lambda *each: told.append(each))

    assert EVALUATIONS == len(found.tried) == len(told)
    assert [(i, loss) for i, (_, loss) in enumerate(found.tried, 1)] == told
    assert COARSE == tuple(scale for scale, _ in found.tried[: len(COARSE)])
    assert len({scale for scale, _ in found.tried}) == EVALUATIONS
    assert (found.scale, found.loss) == min(found.tried, key=lambda each: each[1])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_chosen(number: float) -> None:
    """If large scales give losses that are not finite, the search returns a smaller scale."""
    found = search_scale(lambda scale: number if scale > 0.9 else 1.0 - scale)

    assert 0.5 < found.scale <= 0.9
    assert math.isfinite(found.loss)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_nothing_finite_is_an_error(number: float) -> None:
    """If no coarse scale gives a finite loss, the search ends with an error at once."""
    tried: list[float] = []

    def loss(scale: float) -> float:
        tried.append(scale)
        return number

    with pytest.raises(LossNotFinite, match="the loss at every scale"):
        search_scale(loss)
    assert len(COARSE) == len(tried)
