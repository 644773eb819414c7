"""Turns in a queue: fair among owners, bounded for each and for all."""

import asyncio

import pytest

from server.artifacts.build import BuildQueueFull, TooManyBuilds
from server.fair_queue import FairQueue


def queue(*, slots: int = 1, most: int = 64, share: int = 16) -> FairQueue:
    """Return a queue, as of one worker unless it says otherwise."""
    return FairQueue(
        slots=slots, most=most, share=share, full=BuildQueueFull, share_full=TooManyBuilds
    )


def next_of(turns: dict[str, "asyncio.Future[None]"]) -> list[str]:
    """Return the builds whose turn it is."""
    return [build for build, turn in turns.items() if turn.done() and not turn.cancelled()]


async def test_owners_take_turns() -> None:
    """The only build of one owner runs next, however many another one has waiting."""
    fair = queue()
    turns = {f"a{i}": fair.enter(f"a{i}", "a") for i in range(10)}
    turns["b0"] = fair.enter("b0", "b")
    order: list[str] = []
    while len(order) < 4:
        (running,) = [build for build in next_of(turns) if build not in order]
        order.append(running)
        fair.leave(running)
    assert ["a0", "a1", "b0", "a2"] == order


async def test_one_owner_may_have_its_share_waiting() -> None:
    """Above its share an owner is refused, and others are not."""
    fair = queue(share=2)
    for name in ("running", "one", "two"):
        fair.enter(name, "a")
    with pytest.raises(TooManyBuilds, match="WEFT_MERGE_QUEUE_SHARE"):
        fair.enter("three", "a")
    fair.enter("other", "b")


async def test_the_whole_queue_is_bounded() -> None:
    """Running and waiting builds count; one that leaves makes room."""
    fair = queue(most=2)
    fair.enter("one", "a")
    fair.enter("two", "b")
    with pytest.raises(BuildQueueFull):
        fair.enter("three", "c")
    fair.leave("two")
    fair.enter("three", "c")


async def test_a_shared_build_waits_in_every_line() -> None:
    """A build at the end of one owner's line runs in the turn of another who asks for it, too."""
    fair = queue()
    turns = {f"a{i}": fair.enter(f"a{i}", "a") for i in range(10)}
    fair.join("a9", "b")
    fair.leave("a0")
    fair.leave("a1")
    assert ["a0", "a1", "a9"] == next_of(turns)
    fair.leave("a9")
    assert "a2" in next_of(turns)


async def test_leaving_twice_frees_one_slot() -> None:
    """A build that left, or never ran, gives up no turn of another."""
    fair = queue()
    turns = {name: fair.enter(name, "a") for name in ("one", "two", "three")}
    fair.leave("two")
    fair.leave("two")
    assert (["one"], True) == (next_of(turns), turns["two"].cancelled())
    fair.leave("one")
    fair.leave("one")
    assert ["one", "three"] == next_of(turns)


async def test_several_run_at_once() -> None:
    """As many builds run as there are slots."""
    fair = queue(slots=2)
    turns = {name: fair.enter(name, "a") for name in ("one", "two", "three")}
    assert ["one", "two"] == next_of(turns)
