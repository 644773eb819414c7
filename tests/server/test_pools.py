"""Pools of threads: what waits for what, and what is refused."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.routing import APIRoute
from httpx import AsyncClient

from server import few_at_once
from server.app import create_app
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.pools import Pool, PoolFull, work_for
from server.routing import Route
from tests.server.asgi import CHAT
from tests.server.conftest import BASE, MakeClient


async def test_a_full_pool_refuses_at_once() -> None:
    """A call beyond threads and queue raises; once a thread is free, calls run again."""
    pool = Pool("test", threads=1, queue=1)
    free = threading.Event()
    running = [asyncio.create_task(pool.run(free.wait)) for _ in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(PoolFull, match="test threads"):
        await pool.run(free.wait)
    free.set()
    await asyncio.gather(*running)
    assert 3 == await pool.run(lambda: 3)


async def test_owners_take_turns_in_a_pool() -> None:
    """The only call of one owner runs next, however many calls of another one wait."""
    pool, order, free = Pool("test", threads=1, queue=100), list[str](), threading.Event()

    def note(owner: str) -> None:
        free.wait()
        order.append(owner)

    async def ask(owner: str) -> None:
        work_for(owner)
        await pool.run(note, owner)

    calls = [asyncio.create_task(ask("a")) for _ in range(20)]
    await asyncio.sleep(0.01)
    calls.append(asyncio.create_task(ask("b")))
    await asyncio.sleep(0.01)
    free.set()
    await asyncio.gather(*calls)
    assert ["a", "a", "b", "a"] == order[:4]


async def test_one_owner_leaves_room_in_a_queue() -> None:
    """An owner whose calls fill its share of the queue is refused, and others are not."""
    pool, free = Pool("test", threads=1, queue=8), threading.Event()
    work_for("a")
    calls = [asyncio.create_task(pool.run(free.wait)) for _ in range(20)]
    await asyncio.sleep(0.01)
    work_for("b")
    other = asyncio.create_task(pool.run(free.wait))
    await asyncio.sleep(0.01)
    free.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert 20 - 1 - 6 == sum(isinstance(result, PoolFull) for result in results)
    assert await other


async def test_a_cancelled_call_counts_until_its_thread_is_free() -> None:
    """Clients that leave do not make room for more calls than threads."""
    pool = Pool("test", threads=1, queue=0)
    free = threading.Event()
    running = asyncio.create_task(pool.run(free.wait))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.sleep(0.01)
    assert 1 == pool.calls
    free.set()
    while pool.calls:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/registry/search", "/registry/adapters", "/registry/jobs"])
async def test_requests_of_one_kind_do_not_delay_a_chat(
    gateway: Gateway, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """While every thread for a route is busy and its queue is full, a chat takes no longer, and
    one request more to the route is 503 with Retry-After."""
    registry, free = gateway.registry, threading.Event()

    def wait(**_: object) -> None:
        free.wait()
        raise RequestInvalid("the test is over")

    for part, name in (
        (registry.search.finder, "revision"),
        (registry.catalogue, "adapters"),
        (registry.jobs, "page"),
    ):
        monkeypatch.setattr(part, name, wait)
    create = registry.access.keys.create
    keys = [create(f"k{n}", role="read", namespace=f"n{n}")[1] for n in range(70)]
    headers = [{"authorization": f"Bearer {key}"} for key in keys]
    _, key = create("ada", role="admin", all_namespaces=True)
    async with make_client(gateway) as client:
        client.headers["authorization"] = f"Bearer {key}"
        many = [asyncio.create_task(client.get(path, headers=headers[n // 2])) for n in range(140)]
        try:
            while not (refused := [task.result() for task in many if task.done()]):
                await asyncio.sleep(0.05)
            began = time.perf_counter()
            chat = await client.post(CHAT, json={"model": "zorp", "messages": []})
            assert (200, True) == (chat.status_code, time.perf_counter() - began < 5)
            assert {(503, "1")} == {(r.status_code, r.headers["retry-after"]) for r in refused}
            assert "server_busy" == refused[0].json()["code"]
        finally:
            free.set()
            await asyncio.gather(*many, return_exceptions=True)


async def test_requests_of_one_caller_wait_in_its_own_line(
    gateway: Gateway, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one caller two requests to the registry run; the others wait, and beyond a number are 503.
    Another caller's request runs at once."""
    running, most, free = 0, 0, asyncio.Event()

    async def run(call: Callable[..., Any], **values: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await free.wait()
        running -= 1
        return await asyncio.to_thread(call, **values)

    _, one = gateway.registry.access.keys.create("one", role="read", namespace="a")
    _, other = gateway.registry.access.keys.create("other", role="read", namespace="b")
    async with make_client(gateway) as client:
        theirs = {"authorization": f"Bearer {other}"}
        assert (await client.get("/registry/adapters", headers=theirs)).is_success
        monkeypatch.setattr(gateway.pools.admin, "run", run)
        monkeypatch.setattr(few_at_once, "_WAITING", 6)
        client.headers["authorization"] = f"Bearer {one}"
        many = [asyncio.create_task(client.get("/registry/adapters")) for _ in range(20)]
        await asyncio.sleep(0.3)
        refused = [task.result().status_code for task in many if task.done()]
        assert (2, [503] * (20 - 2 - 6)) == (most, refused)
        quick = asyncio.create_task(client.get("/registry/adapters", headers=theirs))
        await asyncio.sleep(0.1)
        assert 3 == running
        free.set()
        answers = [response.status_code for response in await asyncio.gather(quick, *many)]
        assert {200: 1 + 2 + 6, 503: 12} == Counter(answers)


def test_every_route_runs_in_a_pool(gateway: Gateway) -> None:
    """No route falls back to FastAPI's own threads, which all routes would share."""
    app = create_app(gateway)
    own = {"/health", "/ready", "/ping", "/version", "/metrics", "/docs", "/openapi.json"}
    for route in app.routes:
        assert isinstance(route, APIRoute)
        assert isinstance(route, Route) or route.path in own, route.path
        assert asyncio.iscoroutinefunction(route.endpoint), route.path


async def test_a_retrieval_waits_for_searches_and_a_name_does_not(
    gateway: Gateway, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto(…)` searches, so it runs with the searches; other names are resolved beside them."""
    asked: list[str] = []
    for pool in (gateway.pools.search, gateway.pools.resolve):

        async def run(
            call: Callable[..., Any], *args: Any, purpose: str = pool.purpose, **kw: Any
        ) -> Any:
            asked.append(purpose)
            return await asyncio.to_thread(call, *args, **kw)

        monkeypatch.setattr(pool, "run", run)
    for model in ("auto(; k=1)", BASE):
        messages = [{"role": "user", "content": "zorp"}]
        answer = await client.post(CHAT, json={"model": model, "messages": messages})
        assert 200 == answer.status_code
    assert ["search", "resolving"] == asked
