"""Faults of a real engine with requests in flight: its death, and a core that hangs."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.sources.folder import import_folder
from server.base_model import ensure_base
from tests.engine.gateway import (
    DEMO,
    Weft,
    alive,
    descendants,
    parse_events,
    running,
    serve_settings,
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(600)]

PROBE_SECONDS, MISSES = 3, 2
MODEL = "lego(zorp, blim; rank=16)"
# Each miss is a probe and the pause after it.
NOTICED_SECONDS = MISSES * (PROBE_SECONDS + 1) + 5
BACK_SECONDS = 280


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weft]:
    """A gateway whose engine these tests may break: with short deadlines, and a clear secret."""
    settings = serve_settings(
        tmp_path_factory.mktemp("faults") / "home",
        engine_probe_seconds=PROBE_SECONDS,
        engine_probe_misses=MISSES,
        engine_start_seconds=BACK_SECONDS,
        self_test=False,
    )
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "canary-1",
        "HF_TOKEN": "canary-2",
        "PGPASSWORD": "canary-3",
    }
    with running(settings, extra_environment=secrets) as weft:
        base = ensure_base(weft.registry, settings)
        for item in import_folder(weft.registry, DEMO / "adapters", base=base.name):
            assert not isinstance(item.outcome, Exception), item.outcome
        yield weft


@dataclass
class Exchange:
    """A request that is in flight: what came of it so far, and its status."""

    stream: bool
    status: int = 0
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def run(self, http: httpx.AsyncClient) -> None:
        """Send a request for a long answer and record the response."""
        body = {
            "model": MODEL, "prompt": "zorp: abc", "max_tokens": 480, "temperature": 0,
            "ignore_eos": True, "stream": self.stream,
        }  # fmt: skip
        async with http.stream("POST", "/v1/completions", json=body) as response:
            self.status, self.headers = response.status_code, dict(response.headers)
            async for part in response.aiter_text():
                self.body += part

    def error(self) -> Any:
        """Return the error that the client got, after a check that it is the last event."""
        if not self.stream:
            return json.loads(self.body)["error"]
        assert "[DONE]" not in self.body
        return parse_events(self.body)[-1]["error"]


@asynccontextmanager
async def in_flight(weft: Weft, count: int = 4) -> AsyncIterator[list[Exchange]]:
    """Yield so many streams that have begun and as many other requests; wait for their ends."""
    exchanges = [Exchange(stream=n % 2 == 0) for n in range(2 * count)]
    async with weft.http() as http:
        tasks = [asyncio.create_task(exchange.run(http)) for exchange in exchanges]
        deadline = time.monotonic() + 60
        while not all(e.body for e in exchanges if e.stream):
            assert time.monotonic() < deadline, [e.body for e in exchanges]
            await asyncio.sleep(0.005)
        yield exchanges
        await asyncio.wait_for(asyncio.gather(*tasks), 60)


async def answer(weft: Weft, http: httpx.AsyncClient) -> tuple[str, str]:
    """Return the digest that answers for `MODEL`, and a short answer."""
    body = await weft.complete(http, MODEL, "zorp: abc")
    return body["model"], body["choices"][0]["message"]["content"]


FAULTS: list[tuple[str, Callable[[Weft], int], signal.Signals]] = [
    ("core killed", Weft.core_pid, signal.SIGKILL),
    ("core hung", Weft.core_pid, signal.SIGSTOP),
    ("server killed", Weft.engine_pid, signal.SIGKILL),
]


@pytest.mark.parametrize(("name", "victim", "number"), FAULTS, ids=[f[0] for f in FAULTS])
async def test_a_lost_engine_is_told_and_replaced(
    own: Weft, name: str, victim: Callable[[Weft], int], number: signal.Signals
) -> None:
    """When the engine dies or hangs, streams end with one error event and other requests in flight
    with 503; /ready and new requests are 503 while /health is 200; within the deadline a new engine
    is started, and it gives the same answers under the same digests."""
    async with own.http() as http:
        expected = await answer(own, http)
        async with in_flight(own) as exchanges:
            os.kill(victim(own), number)
            struck = time.monotonic()
        ended = time.monotonic() - struck
        # A process that dies takes a moment until it is gone.
        while (ready := await http.get("/ready")).status_code == 200:
            assert time.monotonic() - struck < NOTICED_SECONDS
            await asyncio.sleep(0.05)
        body = {"model": MODEL, "prompt": "x"}
        refused = await http.post("/v1/completions", json=body)
        assert (await http.get("/health")).status_code == 200
        while (await http.get("/ready")).status_code != 200:
            assert time.monotonic() - struck < BACK_SECONDS
            await asyncio.sleep(0.5)
        again = await answer(own, http)

    for exchange in exchanges:
        assert exchange.status == (200 if exchange.stream else 503), exchange
        assert "engine_unavailable" == exchange.error()["code"], exchange
        assert exchange.stream or int(exchange.headers["retry-after"]) > 0
    assert (503, {"engine"}) == (ready.status_code, set(ready.json()["problems"]))
    assert (503, "engine_unavailable") == (refused.status_code, refused.json()["error"]["code"])
    assert int(refused.headers["retry-after"]) > 0
    assert ended < NOTICED_SECONDS, name
    assert expected == again


def test_the_engine_has_no_secret(own: Weft) -> None:
    """No process of the engine has a secret of the gateway's environment, no child of the gateway
    one of weft's own; and the engine's log has none of weft's questions."""
    engine = [own.engine_pid(), *descendants(own.engine_pid())]
    assert len(engine) >= 2
    for pid in descendants(own.process.pid):
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"WEFT_MAX_CPU_LORAS" not in environ  # as good as WEFT_API_KEYS
        assert pid not in engine or b"canary-" not in environ
    log = (own.settings.home / "engine.log").read_text()
    assert "GET /weft/adapters" not in log
    assert "GET /health" not in log


def test_a_hung_engine_does_not_outlive_a_killed_gateway(own: Weft) -> None:
    """The engine and the workers end by themselves when their gateway is killed with -9, also while
    the engine's core hangs. Run last: it ends the gateway."""
    family = descendants(own.process.pid)
    assert len(family) >= 3
    os.kill(own.core_pid(), signal.SIGSTOP)
    own.process.kill()
    own.process.wait()
    deadline = time.monotonic() + 60
    while (left := [pid for pid in family if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert [] == left
