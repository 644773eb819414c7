"""A clock that is set back by an hour while the gateway runs."""

import sys
import time
from datetime import datetime, timedelta

import pytest
from httpx import AsyncClient

from registry.service import Registry
from registry.storage import columns
from server.artifacts.collect import collect, collector_of
from server.gateway import Gateway
from tests.server.asgi import CHAT
from tests.server.conftest import MakeClient, MakeGateway

BACK_SECONDS = 3600.0


def set_back(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the wall clock back, as weft reads it; the monotonic clock goes on."""
    real_now, real_time = columns.now, time.time

    def now() -> datetime:
        return real_now() - timedelta(seconds=seconds)

    for name, module in list(sys.modules.items()):
        if name.startswith(("registry.", "server.")) and vars(module).get("now") is real_now:
            monkeypatch.setattr(module, "now", now)
    monkeypatch.setattr(time, "time", lambda: real_time() - seconds)


async def test_a_clock_that_is_set_back(
    make_gateway: MakeGateway, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, keys and files keep their meaning: an alias is where it was moved last, and its moves
    are listed in their order; a revoked key stays revoked; no file in use is garbage."""
    gateway = make_gateway(api_keys="secret")
    registry: Registry = gateway.registry
    _, old = registry.access.keys.create("old", role="chat", namespace=None)
    _, revoked = registry.access.keys.create("revoked", role="chat", namespace=None)
    registry.access.keys.revoke("revoked")
    async with make_client(gateway) as client:
        client.headers["authorization"] = "Bearer secret"
        mix = "/registry/compositions/mix/-"
        for text in ("cat(zorp, blim)", "cat(zorp, plov)", "cat(blim, plov)"):
            made = await client.post(f"{mix}/versions", json={"expression": text})
            assert made.is_success, made.text
        await move(client, mix, 1)
        first = (await client.post(CHAT, json={"model": "mix@live"})).json()["model"]

        set_back(monkeypatch, BACK_SECONDS)
        await move(client, mix, 2)
        await move(client, mix, 3)
        last = await client.post(CHAT, json={"model": "mix@live"})
        assert last.json()["model"] not in ("", first)
        moves = (await client.get(f"{mix}/alias-moves")).json()["items"]
        assert [3, 2, 1] == [item["to_number"] for item in moves]
        for key, status in ((old, 200), (revoked, 401)):
            headers = {"authorization": f"Bearer {key}"}
            answer = await client.post(CHAT, json={"model": "zorp"}, headers=headers)
            assert status == answer.status_code
        assert [] == await garbage(gateway)
        for digest in gateway.artifacts.digests():
            gateway.artifacts.verify(digest)
        assert (await client.get("/ready")).is_success
        audit = (await client.get("/registry/audit")).json()["items"]
        assert "mix" in audit[0]["subject"]


async def move(client: AsyncClient, path: str, version: int) -> None:
    """Move the alias `live`."""
    moved = await client.put(f"{path}/aliases/live", json={"version": version})
    assert moved.is_success, moved.text


async def garbage(gateway: Gateway) -> list[str]:
    """Collect garbage and return what was removed."""
    collector = collector_of(gateway.registry.versions._database, gateway.settings, grace_days=0)
    done = await collect(collector, gateway.evictor, collector.plan())
    return [item.garbage.digest for item in done if item.removed]
