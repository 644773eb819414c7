"""weft on a real Ray of this machine, with stubs in the place of vLLM: two gateways and two engines
on one PostgreSQL and one store.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.cli.demo import import_demo_adapters
from tests import postgresql
from tests.server.cluster.running import OnRay, cluster_settings, on_ray, stub_engines
from tests.server.conftest import BASE

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NAMES = ("zorp", "blim", "tref", "krun", "plov", "frob")
_BACK_SECONDS = 120.0


@pytest.fixture(scope="module")
def weft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnRay]:
    """Two gateways and two stub engines; each gateway and the engines have own folders."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "store").mkdir()
    stub_engines(folder)
    with postgresql.serve() as server:
        settings = cluster_settings(
            folder / "home", store=f"file://{folder / 'store'}", database_url=server.create(),
            self_test=False, job_devices=(),
        )  # fmt: skip
        import_demo_adapters(settings)
        with on_ray(folder, settings, "--engines", "2", "--gateways", "2") as running:
            yield running


async def ask(http: httpx.AsyncClient, model: str) -> httpx.Response:
    """Send a chat."""
    messages = [{"role": "user", "content": "x"}]
    return await http.post("/v1/chat/completions", json={"model": model, "messages": messages})


async def pids(http: httpx.AsyncClient, model: str, count: int) -> Counter[int]:
    """Return how many of so many chats, one after the other, each engine answered."""
    answers: Counter[int] = Counter()
    for _ in range(count):
        answer = await ask(http, model)
        assert answer.status_code == 200, answer.text
        answers[answer.json()["pid"]] += 1
    return answers


async def until_answered_by(http: httpx.AsyncClient, lost: int) -> float:
    """Return the seconds until two engines other than `lost` answer the base's chats."""
    began = time.monotonic()
    while time.monotonic() - began < _BACK_SECONDS:
        engines: set[int] = set()
        for answer in await asyncio.gather(*(ask(http, BASE) for _ in range(8))):
            if answer.status_code == 200:
                engines.add(answer.json()["pid"])
        if len(engines - {lost}) == 2:
            return time.monotonic() - began
        await asyncio.sleep(0.5)
    raise AssertionError(f"there was one engine after {_BACK_SECONDS} s")


async def test_an_adapter_stays_with_one_engine_whichever_gateway_is_asked(weft: OnRay) -> None:
    """Chats of one adapter, spread over both gateways, are answered by one engine; the adapters
    are spread over both engines."""
    homes: set[int] = set()
    for name in NAMES:
        async with weft.http() as http:
            answers = await pids(http, f"{name}@prod", 6)
        assert len(answers) == 1, (name, answers)
        homes |= answers.keys()
    assert len(homes) == 2


async def test_a_cold_composition_is_merged_once(weft: OnRay) -> None:
    """Eight clients that ask both gateways for one new composition get one artifact, of one
    build."""
    async with weft.http() as http:
        answers = await asyncio.gather(*(ask(http, "cat(zorp@prod, blim@prod)") for _ in range(8)))
        listed: Any = (await http.get("/registry/artifacts")).json()
    assert [200] * 8 == [answer.status_code for answer in answers]
    assert len({answer.json()["model"] for answer in answers}) == 1
    assert [answers[0].json()["model"]] == [item["digest"] for item in listed["items"]]


async def test_an_engine_that_is_killed_comes_back(weft: OnRay) -> None:
    """While an engine is gone the other answers every chat, and Ray starts it again."""
    async with weft.http() as http:
        (lost,) = await pids(http, "zorp@prod", 1)
        os.kill(lost, signal.SIGKILL)
        after = await pids(http, "zorp@prod", 20)
        assert lost not in after
        await until_answered_by(http, lost)


async def test_a_gateway_that_is_killed_comes_back(weft: OnRay) -> None:
    """Of the chats that follow a gateway's end few fail, and Ray starts another one."""
    gateways = weft.processes("ServeReplica:weft:gateway")
    assert len(gateways) == 2
    gateways[0].kill()
    statuses: Counter[int] = Counter()
    for _ in range(60):
        async with weft.http() as http:
            try:
                statuses[(await ask(http, "zorp@prod")).status_code] += 1
            except httpx.TransportError:
                statuses[0] += 1
        await asyncio.sleep(0.05)
    assert statuses[200] >= 55, statuses
    deadline = time.monotonic() + _BACK_SECONDS
    while len(weft.processes("ServeReplica:weft:gateway")) < 2 and time.monotonic() < deadline:
        await asyncio.sleep(1)
    assert len(weft.processes("ServeReplica:weft:gateway")) == 2


def test_files_of_gateways_are_apart(weft: OnRay) -> None:
    """Each gateway has its own home below the cluster's."""
    homes = sorted(path.name for path in Path(weft.settings.home).glob("gateway-*"))
    assert ["gateway-0", "gateway-1"] == homes
