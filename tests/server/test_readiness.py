"""/health says that the gateway runs, /ready whether it can answer."""

import asyncio
import shutil
import threading
import time

import pytest
from httpx import AsyncClient

from registry.storage.errors import DatabaseUnavailable
from server import readiness
from server.engine.fake import FakeEngine
from server.gateway import Gateway


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask anew each time, and do not wait long."""
    monkeypatch.setattr(readiness, "_REMEMBERED_SECONDS", 0)
    monkeypatch.setattr(readiness, "_ANSWER_SECONDS", 0.2)


async def problems(client: AsyncClient) -> set[str]:
    """Return the parts that /ready names, after a check that its status fits."""
    answer = await client.get("/ready")
    parts = set(answer.json().get("problems", {}))
    assert answer.status_code == (503 if parts else 200)
    assert (await client.get("/health")).status_code == 200
    return parts


async def test_a_gateway_is_alive_while_its_engine_restarts(
    client: AsyncClient, engine: FakeEngine
) -> None:
    """/health is 200 while the engine is down, so that nobody ends the gateway that restarts it;
    /ready is 503 then, without a moment's memory."""
    assert set() == await problems(client)
    engine.up = False
    assert {"engine"} == await problems(client)
    engine.up = True
    assert set() == await problems(client)


async def test_a_gateway_without_its_database_is_not_ready(
    client: AsyncClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that refuses makes /ready 503; the answer has none of its words."""

    def gone(_name: str) -> None:
        raise DatabaseUnavailable("postgresql://weft:secret@db")

    monkeypatch.setattr(gateway.registry.bases, "get", gone)
    assert {"database"} == await problems(client)
    assert "secret" not in (await client.get("/ready")).text


async def test_a_database_that_hangs_costs_one_thread(
    client: AsyncClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/ready answers in time while the database hangs, and starts no second check meanwhile."""
    release = threading.Event()
    monkeypatch.setattr(gateway.registry.bases, "get", lambda _name: release.wait(20))
    before = threading.active_count()
    started = time.monotonic()
    for _ in range(3):
        assert {"database"} == await problems(client)
    assert time.monotonic() - started < 3
    assert threading.active_count() <= before + 1
    release.set()
    await asyncio.sleep(0.05)
    assert set() == await problems(client)


async def test_a_gateway_without_its_disk_is_not_ready(
    client: AsyncClient, gateway: Gateway
) -> None:
    """A folder that cannot be written makes /ready 503, and nothing is left in one that can."""
    artifacts = gateway.settings.artifacts
    assert set() == await problems(client)
    assert [] == list(artifacts.iterdir())
    shutil.rmtree(artifacts)
    artifacts.touch()
    assert {"disk"} == await problems(client)


async def test_a_stopping_gateway_is_not_ready(client: AsyncClient, gateway: Gateway) -> None:
    """From the signal on, /ready is 503, so that a balancer sends requests elsewhere."""
    gateway.stopping.begun = True
    assert {"gateway"} == await problems(client)


async def test_many_who_ask_cost_one_check(
    client: AsyncClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is remembered for a moment, because anybody may ask."""
    asked: list[str] = []
    monkeypatch.setattr(readiness, "_REMEMBERED_SECONDS", 5)
    monkeypatch.setattr(gateway.registry.bases, "get", asked.append)
    await asyncio.gather(*(client.get("/ready") for _ in range(20)))
    assert 1 == len(asked)
