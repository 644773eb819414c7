"""Limits per key over a sliding minute."""

import pytest

from registry.access.usage import Counts
from registry.callers import NO_NAMESPACE, Caller, KeyLimits
from server.rates import Rate, RateLimited, effective_limits, headers_of_rates, rates


@pytest.mark.parametrize(
    ("before", "used", "elapsed", "left"),
    [(0, 0, 0, 10), (0, 4, 30, 6), (10, 0, 0, 0), (10, 0, 30, 5), (10, 5, 30, 0), (0, 12, 1, 0)],
)
def test_the_window_slides(before: float, used: float, elapsed: float, left: float) -> None:
    """What was used in the last minute counts by the part of it that 60 seconds still cover."""
    rate = Rate("requests", 10, before, used, elapsed)
    assert left == rate.left
    assert (left < 1) == rate.exhausted


@pytest.mark.parametrize(
    ("before", "used", "elapsed"),
    [(10, 0, 0), (10, 0, 5), (10, 2, 5), (10, 9, 3), (0, 10, 0), (0, 10, 59), (3, 30, 20)],
)  # fmt: skip
def test_after_the_wait_there_is_one_more(before: float, used: float, elapsed: float) -> None:
    """After the seconds that a refusal names the next request is accepted, and not long before."""
    rate = Rate("requests", 10, before, used, elapsed)
    wait = rate.wait(1)

    def at(seconds: float) -> Rate:
        moment = elapsed + seconds
        if moment < 60:
            return Rate("requests", 10, before, used, moment)
        return Rate("requests", 10, used, 0, moment - 60)

    assert rate.exhausted
    assert not at(wait + 0.001).exhausted
    assert at(max(0, wait - 0.1)).exhausted


def test_an_own_limit_replaces_the_default() -> None:
    """A key's own limits go before the settings', which do not hold for those who operate."""
    defaults = KeyLimits(requests=60, tokens=1000)
    own = KeyLimits(requests=5, compositions=0)
    for namespace in (NO_NAMESPACE, "team"):
        caller = Caller("ci", "admin", namespace, own)
        assert KeyLimits(5, 1000, 0, None) == effective_limits(caller, defaults)
    assert KeyLimits(60, 1000) == effective_limits(Caller("ci", "chat"), defaults)
    assert KeyLimits() == effective_limits(Caller("root"), defaults)
    assert own == effective_limits(Caller("root", limits=own), defaults)


def test_the_headers_are_openais() -> None:
    """Each limit has three headers: the limit, what is left, and when all of it will be."""
    used = Counts(requests=2, prompt_tokens=30, completion_tokens=15, build_seconds=0.25)
    some = rates(KeyLimits(10, 100, None, 2.0), Counts(), used, 5, elapsed=0)
    headers = headers_of_rates(some)
    assert ("10", "8", "120s") == tuple(
        headers[f"x-ratelimit-{part}-requests"] for part in ("limit", "remaining", "reset")
    )
    assert "50" == headers["x-ratelimit-remaining-tokens"]
    assert "1.8" == headers["x-ratelimit-remaining-build-seconds"]
    assert not [name for name in headers if "compositions" in name]


def test_a_refusal_says_which_limit_how_much_is_left_and_when() -> None:
    """The message has the limit, what is left and the seconds, which Retry-After repeats."""
    error = RateLimited("ci", Rate("compositions", 2, 0, 2, 30), {"x": "y"})
    assert str(error) == (
        "The key ci may use 2 new compositions per minute, and 0 are left. Try again in 60 s."
    )
    assert 60 == error.retry_after_seconds
    assert {"x": "y"} == error.headers
