"""Leases: shared by requests, exclusive for a removal, released on every exit."""

import asyncio
import random

import pytest

from server.artifacts.leases import LeaseBusy, Leases

D = "d" * 64
OTHER = "e" * 64


async def settle() -> None:
    """Run every task that is ready."""
    for _ in range(10):
        await asyncio.sleep(0)


def entries(leases: Leases) -> int:
    """Return the number of digests in the table."""
    return len(leases._entries)


async def test_requests_share_a_digest() -> None:
    """Any number of requests can hold one digest; `total` counts them."""
    leases = Leases()
    async with leases.hold(D), leases.hold(D), leases.hold(OTHER):
        assert 3 == leases.total()
    assert (0, 0) == (leases.total(), entries(leases))


async def test_an_error_releases() -> None:
    """A body that raises leaves no lease behind."""
    leases = Leases()
    with pytest.raises(ZeroDivisionError):
        async with leases.hold(D):
            raise ZeroDivisionError
    assert (0, 0) == (leases.total(), entries(leases))


async def test_cancellation_releases() -> None:
    """A request that is cancelled while it holds or waits leaves no lease."""
    leases = Leases()

    async def hold() -> None:
        async with leases.hold(D):
            await asyncio.sleep(60)

    holder = asyncio.create_task(hold())
    await settle()
    removal = asyncio.create_task(_remove(leases, 60))
    await settle()
    waiter = asyncio.create_task(hold())
    await settle()
    assert 1 == leases.total()
    for task in (waiter, removal, holder):
        task.cancel()
    await asyncio.gather(waiter, removal, holder, return_exceptions=True)
    assert (0, 0) == (leases.total(), entries(leases))


async def _remove(leases: Leases, wait_seconds: float) -> None:
    async with leases.exclusive(D, wait_seconds=wait_seconds):
        pass


async def test_removal_waits_for_the_last_lease() -> None:
    """`exclusive` begins only after the last holder has released."""
    leases = Leases()
    async with leases.hold(D):
        removal = asyncio.create_task(_remove(leases, 60))
        await settle()
        assert not removal.done()
    await removal


async def test_removal_gives_up_after_its_time() -> None:
    """A digest in use is LeaseBusy with the number of holders, and can be leased again at once."""
    leases = Leases()
    async with leases.hold(D), leases.hold(D):
        with pytest.raises(LeaseBusy) as caught:
            await _remove(leases, 0.01)
        assert 2 == caught.value.holders
        async with leases.hold(D):
            assert 3 == leases.total()
    assert entries(leases) == 0


async def test_no_wait_succeeds_when_nobody_holds() -> None:
    """A wait of zero succeeds for a free digest."""
    leases = Leases()
    for _ in range(20):
        await _remove(leases, 0)
    assert entries(leases) == 0


async def test_a_second_removal_is_refused() -> None:
    """A concurrent removal of the same digest is LeaseBusy at once."""
    leases = Leases()
    async with leases.exclusive(D, wait_seconds=0):
        with pytest.raises(LeaseBusy):
            await _remove(leases, 60)
        await _remove_other(leases)


async def _remove_other(leases: Leases) -> None:
    async with leases.exclusive(OTHER, wait_seconds=0):
        pass


async def test_new_leases_wait_for_a_removal() -> None:
    """A lease requested during a removal is granted afterwards, even if the removal failed."""
    leases = Leases()
    granted = asyncio.Event()

    async def hold() -> None:
        async with leases.hold(D):
            granted.set()

    async def fail_to_remove() -> None:
        async with leases.exclusive(D, wait_seconds=0):
            waiting.append(asyncio.create_task(hold()))
            await settle()
            assert not granted.is_set()
            raise ZeroDivisionError

    waiting: list[asyncio.Task[None]] = []
    with pytest.raises(ZeroDivisionError):
        await fail_to_remove()
    await asyncio.wait_for(waiting[0], 1)
    assert entries(leases) == 0


@pytest.mark.parametrize("seed", range(5))
async def test_no_order_of_events_breaks_the_rule(seed: int) -> None:
    """In any mix of holds, removals and cancellations no lease is held during a removal,
    removals never overlap, everything ends, and the table is empty afterwards.
    """
    leases, rng = Leases(), random.Random(seed)
    holders, removing, outcomes = dict.fromkeys((D, OTHER), 0), set[str](), {"held": 0, "gone": 0}

    async def hold(digest: str, turns: int) -> None:
        async with leases.hold(digest):
            assert digest not in removing
            holders[digest] += 1
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
                outcomes["held"] += 1
            finally:
                holders[digest] -= 1

    async def remove(digest: str, wait: float, turns: int) -> None:
        try:
            async with leases.exclusive(digest, wait_seconds=wait):
                assert (0, False) == (holders[digest], digest in removing)
                removing.add(digest)
                try:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    assert holders[digest] == 0
                    outcomes["gone"] += 1
                finally:
                    removing.discard(digest)
        except LeaseBusy:
            pass

    tasks: list[asyncio.Task[None]] = []
    for _ in range(400):
        digest, turns = rng.choice((D, OTHER)), rng.randrange(8)
        if rng.random() < 0.7:
            tasks.append(asyncio.create_task(hold(digest, turns)))
        else:
            wait = rng.choice((0, 0.001, 1))
            tasks.append(asyncio.create_task(remove(digest, wait, turns)))
        if rng.random() < 0.3:
            rng.choice(tasks).cancel()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    assert [] == [x for x in done if isinstance(x, Exception)]
    await settle()
    assert (0, 0) == (leases.total(), entries(leases))
    assert outcomes["held"] > 50
    assert outcomes["gone"] > 0
