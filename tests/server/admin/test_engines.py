"""`GET /registry/engines`: residency, builds in flight, and what a caller is not told."""

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient

from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server.admin.conftest import ClientOf
from tests.server.asgi import CHAT
from tests.server.conftest import BASE
from tests.server.slow import SlowResponse

ENGINES = "/registry/engines"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the engines anew for every answer."""
    monkeypatch.setattr("server.residency._REMEMBERED_SECONDS", 0.0)


async def told(client: AsyncClient) -> dict[str, Any]:
    """Return what a caller is told of the engines."""
    answer = await client.get(ENGINES)
    assert 200 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def chat(client: AsyncClient, model: str) -> str:
    """Return the digest that answers for a model."""
    body = {"model": model, "messages": [{"role": "user", "content": "zorp: x"}]}
    return str((await client.post(CHAT, json=body)).json()["model"])


async def test_what_is_loaded_is_named(
    admin: AsyncClient, engine: FakeEngine, gateway: Gateway
) -> None:
    """Each engine has its base, its slots, and its adapters with the models that they answer."""
    await admin.post(
        "/registry/compositions/mix/-/versions", json={"expression": "cat(zorp, blim)"}
    )
    single, saved, unnamed = [
        await chat(admin, model) for model in ("zorp", "mix", "cat(zorp, 0.25*blim)")
    ]
    body = await told(admin)
    (only,) = body["engines"]
    assert (BASE, engine.name, True, 0, gateway.bases.default.fleet.slots, 0) == (
        only["base"], only["name"], only["available"], only["restarts"], only["slots"],
        only["hidden"],
    )  # fmt: skip
    models = {item["digest"]: item["models"] for item in only["resident"]}
    assert {single: ["zorp@1"], saved: ["mix@1"], unnamed: []} == models
    assert (3, 0, 2) == (body["loads"], body["merge_hits"], body["merge_misses"])
    await chat(admin, "mix")
    assert 1 == (await told(admin))["merge_hits"]


async def test_others_adapters_are_counted_alone(
    client_of: ClientOf, admin: AsyncClient, private: str
) -> None:
    """A caller is told how many adapters it may not see are loaded, and no engine's address."""
    digest = await chat(admin, private)
    public = await chat(admin, "zorp")
    clients = {name: await client_of("read", name) for name in ("team", "other")}
    for namespace, expected, hidden in (("team", {public}, 1), ("other", {public, digest}, 0)):
        body = await told(clients[namespace])
        (only,) = body["engines"]
        assert None is only["name"]
        assert hidden == only["hidden"]
        assert expected == {item["digest"] for item in only["resident"]}
    assert digest not in str(await told(clients["team"]))


async def test_running_requests_are_counted(
    admin: AsyncClient, gateway: Gateway, slow: SlowResponse
) -> None:
    """While an answer runs, its adapter has a running request and a lease."""
    running = asyncio.create_task(chat(admin, "zorp"))
    while not gateway.leases.total():
        await asyncio.sleep(0.01)
    body: dict[str, Any] = {}
    while not body or not body["engines"][0]["resident"] or not body["engines"][0]["running"]:
        body = await told(admin)
    (item,) = body["engines"][0]["resident"]
    assert (1, 1, 1) == (item["running"], item["leases"], body["leases"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_builds_in_flight_are_told_to_their_callers(
    gateway: Gateway, client_of: ClientOf, admin: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build is told to who asked for it and to an operator, and counted for all others."""
    go = asyncio.Event()

    async def held(*_: object) -> Any:
        await go.wait()
        raise RuntimeError("ended")

    monkeypatch.setattr(gateway.builder, "_build", held)
    owner, stranger = await client_of("chat", "team"), await client_of("chat", "other")
    building = asyncio.create_task(chat(owner, "lego(zorp, blim)"))
    while not any(build.begun for build in gateway.builder.in_flight()):
        await asyncio.sleep(0.01)
    for client in (owner, admin):
        (build,) = (await told(client))["builds"]
        assert ("lego", "running", 1, "team-chat") == (
            build["method"], build["state"], build["waiters"], build["caller"],
        )  # fmt: skip
    other = await told(stranger)
    assert ([], 1, 0) == (other["builds"], other["builds_running"], other["builds_waiting"])
    go.set()
    await asyncio.gather(building, return_exceptions=True)
    assert [] == (await told(admin))["builds"]


async def test_a_lost_engine_is_not_available(admin: AsyncClient, engine: FakeEngine) -> None:
    """An engine that does not answer is shown without adapters."""
    await chat(admin, "zorp")
    engine.up = False
    (only,) = (await told(admin))["engines"]
    assert (False, []) == (only["available"], only["resident"])


async def test_engines_are_asked_once_for_all(
    admin: AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many want to know, an engine is asked at most once in a while."""
    monkeypatch.setattr("server.residency._REMEMBERED_SECONDS", 60.0)
    asked: list[int] = []
    adapters = engine.adapters

    async def counted() -> Any:
        asked.append(1)
        return await adapters()

    monkeypatch.setattr(engine, "adapters", counted)
    await asyncio.gather(*(told(admin) for _ in range(5)))
    assert [1] == asked
