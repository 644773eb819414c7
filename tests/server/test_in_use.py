"""What keeps an adapter in an engine from the arrival of a request to the start of its answer."""

import asyncio
import gc
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from server.engine.in_use import Arrivals, Locks


async def test_a_request_counts_until_the_first_byte_of_its_answer() -> None:
    """From then on the engine knows it; the head of an answer may come before that."""
    arrivals, seen = Arrivals(), list[bool]()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for kind in ("http.response.start", "http.response.body", "http.response.body"):
            await send({"type": kind})

    async def send(_message: Message) -> None:
        seen.append("one" in arrivals)

    async def receive() -> Message:
        raise AssertionError

    await arrivals.answer(app, {}, receive, send, "one")
    assert [True, False, False] == seen
    assert "other" not in arrivals


async def test_a_request_that_fails_counts_no_more() -> None:
    """An error and a client that leaves end the request, also beside another one."""
    arrivals, leave = Arrivals(), asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await leave.wait()
        raise ValueError

    async def unused(*_: object) -> Any:
        raise AssertionError

    requests = [
        asyncio.create_task(arrivals.answer(app, {}, unused, unused, "one")) for _ in range(2)
    ]
    await asyncio.sleep(0)
    requests[0].cancel()
    await asyncio.wait(requests[:1])
    assert "one" in arrivals
    leave.set()
    await asyncio.wait(requests)
    assert "one" not in arrivals


async def test_a_lock_is_the_same_while_anybody_waits_for_it() -> None:
    """Who comes after a holder has left, and while another one waits, gets the same lock; a lock
    that nobody uses is forgotten."""
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
