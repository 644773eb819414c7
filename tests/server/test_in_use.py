"""What keeps an adapter in an engine while requests use it."""

import asyncio
import gc
from contextlib import suppress

from server.engine.in_use import Locks, Uses


def test_a_model_is_in_use_until_its_last_request_has_ended() -> None:
    """A request counts however it ends, also with an error; other models do not count with it."""
    uses = Uses()
    with uses.of("one"):
        with suppress(KeyError), uses.of("one"):
            raise KeyError
        assert ("one" in uses, "other" in uses) == (True, False)
    assert "one" not in uses


async def test_a_lock_is_the_same_while_it_is_held_or_awaited() -> None:
    """A task that comes after a holder has left, while another task waits, gets the same lock; a
    lock without a task is forgotten."""
    locks, inside, most = Locks(), 0, 0

    async def enter() -> None:
        nonlocal inside, most
        async with locks["one"]:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    tasks = list[asyncio.Task[None]]()
    for _ in range(20):
        tasks.append(asyncio.create_task(enter()))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert most == 1
    tasks.clear()
    gc.collect()
    assert not len(locks)
