"""Errors of recipes are kept for a while, and only so many of them."""

import pytest

from merge.errors import UnsafeResult
from server.artifacts.refusals import Refusals
from server.artifacts.worker import BuildTimeout, BuildTooLarge


@pytest.mark.parametrize("error", [UnsafeResult("no"), BuildTimeout(2.0), BuildTooLarge("no")])
def test_a_refusal_is_repeated_until_it_expires(error: Exception) -> None:
    """The same type and message are raised for the time of an entry, and nothing after it."""
    now = 0.0
    refusals = Refusals(seconds=10, clock=lambda: now)
    refusals.add("a", error)
    refusals.check("b")
    for later in (0.0, 9.9):
        now = later
        with pytest.raises(type(error)) as caught:
            refusals.check("a")
        assert (str(error), True) == (str(caught.value), caught.value is not error)
    now = 10.0
    refusals.check("a")


def test_the_oldest_are_forgotten() -> None:
    """The number of entries is bounded."""
    refusals = Refusals(most=2)
    for recipe in "abc":
        refusals.add(recipe, UnsafeResult("no"))
    refusals.check("a")
    with pytest.raises(UnsafeResult):
        refusals.check("c")
