"""Counting what keys use: limits across gateways, reservations, and a database that is away."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from registry.access.usage import Counts, Slot, Usage
from registry.callers import LOCAL, Caller, KeyLimits
from registry.service import Registry
from registry.storage.errors import DatabaseUnavailable
from server.meter import Meter
from server.rates import RateLimited

CI = Caller("ci", "chat", "team")
NOON = 1_796_040_000.0  # the start of a minute
LIMITS = KeyLimits(requests=3, tokens=100, compositions=1, build_seconds=5)

MakeMeter = Callable[[], Meter]


@pytest.fixture
def now() -> list[float]:
    """The time of every meter."""
    return [NOON]


@pytest.fixture
def make_meter(registry: Registry, now: list[float]) -> MakeMeter:
    """Makes meters of gateways on one registry."""
    return lambda: Meter(registry.access.usage, LIMITS, clock=lambda: now[0])


def ask(meter: Meter, caller: Caller = CI, prompt: int = 0, completion: int = 0) -> None:
    """Make one request that uses these tokens."""
    with meter.request(caller, tokens=0) as measured:
        measured.prompt_tokens, measured.completion_tokens = prompt, completion


async def test_requests_beyond_the_limit_are_refused(
    make_meter: MakeMeter, now: list[float]
) -> None:
    """The fourth request of a minute waits; another key's does not, nor an operator's."""
    meter = make_meter()
    for _ in range(3):
        ask(meter)
    with pytest.raises(RateLimited, match="3 requests per minute, and 0 are left") as caught:
        ask(meter)
    ask(meter, Caller("cd", "chat", "team"))
    for _ in range(9):
        ask(meter, Caller("root"))
    assert caught.value.retry_after_seconds is not None
    now[0] += caught.value.retry_after_seconds
    ask(meter)


async def test_two_gateways_share_a_limit(make_meter: MakeMeter, now: list[float]) -> None:
    """What one gateway counted holds on another after both have written."""
    first, second = make_meter(), make_meter()
    for _ in range(2):
        ask(first)
    ask(second)
    await first.flush()
    await second.flush()
    with pytest.raises(RateLimited):
        ask(second)
    now[0] += 121
    ask(second)


async def test_tokens_are_reserved_while_a_request_runs(make_meter: MakeMeter) -> None:
    """Requests at once cannot all pass before the first is counted; what is unused is returned."""
    meter = make_meter()
    with meter.request(CI, tokens=100) as running:
        with pytest.raises(RateLimited, match="100 tokens per minute, and 0 are left"):
            ask(meter)
        running.prompt_tokens, running.completion_tokens = 50, 30
    with meter.request(CI, tokens=0) as measured:
        assert "20" == measured.headers["x-ratelimit-remaining-tokens"]


async def test_builds_are_limited_by_number_and_seconds(make_meter: MakeMeter) -> None:
    """A second new composition waits, and so does one after too many seconds of builds."""
    meter = make_meter()
    meter.check_build(CI)
    meter.begun(CI)
    with pytest.raises(RateLimited, match="new compositions"):
        meter.check_build(CI)
    other = Caller("cd", "chat")
    meter.built(other, 5.0)
    with pytest.raises(RateLimited, match="5 seconds of builds per minute"):
        meter.check_build(other)
    for _ in range(5):
        meter.begun(LOCAL)
        meter.check_build(LOCAL)


async def test_counts_survive_a_database_that_is_away(
    make_meter: MakeMeter, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written is kept, still counts for the limit, and is written later, once."""
    meter, add = make_meter(), Usage.add

    def refuse(self: Usage, used: Mapping[Slot, Counts]) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(Usage, "add", refuse)
    for _ in range(3):
        ask(meter, prompt=7)
        await meter.flush()
    with pytest.raises(RateLimited):
        ask(meter)
    monkeypatch.setattr(Usage, "add", add)
    await meter.flush()
    await meter.flush()
    (row,) = registry.access.usage.page().items
    assert (3, 21, "team") == (row.requests, row.prompt_tokens, row.namespace)


async def test_the_counts_are_written_at_the_end(make_meter: MakeMeter, registry: Registry) -> None:
    """A gateway that stops writes what it has counted."""
    meter = make_meter()
    task = asyncio.create_task(meter.run())
    await asyncio.sleep(0)
    ask(meter)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert 1 == registry.access.usage.page().items[0].requests


async def test_a_request_writes_nothing(make_meter: MakeMeter, registry: Registry) -> None:
    """A thousand requests of two keys are one transaction."""
    meter, written = make_meter(), 0
    inner = registry.access.usage.add

    def add(used: Mapping[Slot, Counts]) -> None:
        nonlocal written
        written += 1
        inner(used)

    registry.access.usage.add = add  # type: ignore[method-assign]
    for _ in range(500):
        ask(meter, Caller("root"), 1, 2)
        ask(meter, Caller("boss"), 1, 2)
    await meter.flush()
    await meter.flush()
    assert 1 == written
    assert [500, 500] == [row.requests for row in registry.access.usage.page().items]
