"""The canary: merges answer the operator's prompts before anybody is served by them."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient
from pydantic import ValidationError

from server.artifacts.canary import CanaryFailed, CanaryUnanswered
from server.engine.fake import FakeEngine, FakeResponse
from server.gateway import Gateway
from server.settings import Settings
from tests.server.asgi import CHAT
from tests.server.conftest import BASE, MakeClient, MakeGateway, Weft
from tests.server.test_provide import provide, target_of

PASSES = {"user": "Who are you?", "pattern": "answered by"}
FAILS = {"prompt": "Who are you?", "absent": "answered by"}
MakeCanary = Callable[..., Gateway]


@pytest.fixture
def guarded(make_gateway: MakeGateway, tmp_path: Path) -> MakeCanary:
    """Make a gateway with a canary of some lines."""

    def make(mode: str, *lines: dict[str, Any]) -> Gateway:
        path = tmp_path / "canary.jsonl"
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return make_gateway(canary=mode, canary_file=path)

    return make


async def ask(client: AsyncClient, model: str) -> Any:
    """Send a chat request and return the status and the document."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    response = await client.post(CHAT, json=body)
    return response.status_code, response.json()


async def test_a_merge_that_fails_is_served_to_nobody(
    guarded: MakeCanary, make_client: MakeClient, engine: FakeEngine
) -> None:
    """A failed merge is 422 under every name, for good and without asking again; adapters that
    were not merged are not asked about; the artifact has the result.
    """
    gateway = guarded("enforce", PASSES, FAILS)
    async with make_client(gateway) as client:
        for name in (BASE, "zorp", "blim@prod"):
            assert 200 == (await ask(client, name))[0]
        assert 3 == len(engine.bodies)
        status, document = await ask(client, "cat(zorp, blim)")
        assert (422, "canary_failed") == (status, document["error"]["code"])
        assert "1 of 2 prompts failed (numbers 2)" in document["error"]["message"]
        asked = engine.bodies[3:]
        assert [64, 64] == [body["max_tokens"] for body in asked]
        digest = str(asked[0]["model"])
        for name in ("cat(zorp, blim)", digest):
            assert 422 == (await ask(client, name))[0]
        assert 5 == len(engine.bodies)

        path = "/registry/compositions/mix/-/versions"
        assert 201 == (await client.post(path, json={"expression": "cat(zorp, blim)"})).status_code
        published = await client.post(f"{path}/1/publish", json={"adapter": "both"})
        assert (422, "canary_failed") == (published.status_code, published.json()["code"])

        result = (await client.get(f"/registry/artifacts/{digest}")).json()["canary"]
        assert (2, False, [2]) == (
            result["asked"], result["passed"], [f["number"] for f in result["failures"]],
        )  # fmt: skip
        assert "no match of answered by" == result["failures"][0]["expected"]


async def test_results_outlive_a_gateway(guarded: MakeCanary, engine: FakeEngine) -> None:
    """Another gateway on the same registry refuses at once; other prompts are asked anew."""
    first = guarded("enforce", FAILS)
    with pytest.raises(CanaryFailed):
        await provide(first, target_of(first, "cat(zorp, blim)"))
    asked = len(engine.bodies)
    second = guarded("enforce", FAILS)
    with pytest.raises(CanaryFailed):
        await provide(second, target_of(second, "cat(zorp, blim)"))
    assert asked == len(engine.bodies)
    third = guarded("enforce", PASSES)
    await provide(third, target_of(third, "cat(zorp, blim)"))
    assert asked + 1 == len(engine.bodies)


async def test_a_hundred_requests_are_one_canary(guarded: MakeCanary, engine: FakeEngine) -> None:
    """Concurrent requests for a new merge share one canary, and later ones none."""
    gateway = guarded("enforce", *[PASSES] * 10)
    target = target_of(gateway, "cat(zorp, blim)")
    await asyncio.gather(*(provide(gateway, target) for _ in range(100)))
    await provide(gateway, target)
    assert 10 == len(engine.bodies)
    assert 0 == gateway.leases.total()


async def test_a_report_refuses_nothing(guarded: MakeCanary, engine: FakeEngine) -> None:
    """With `report` a failed merge is served, and the result is stored."""
    gateway = guarded("report", FAILS)
    digest = await provide(gateway, target_of(gateway, "cat(zorp, blim)"))
    result = gateway.registry.canaries.newest(digest)
    assert result is not None
    assert not result.passed
    await provide(gateway, target_of(gateway, "cat(zorp, blim)"))
    assert 1 == len(engine.bodies)


async def test_without_an_answer_nothing_is_known(
    guarded: MakeCanary, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that the engine refuses is no verdict: enforced it is an error, and asked again."""
    refusal = FakeResponse(400, {}, [b'{"error": {"message": "too long"}}'], breaks=False)
    gateway = guarded("enforce", PASSES)
    target = target_of(gateway, "cat(zorp, blim)")
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_answer", lambda *_, **__: refusal)
        with pytest.raises(CanaryUnanswered, match=r"prompt 1 with 400.*too long"):
            await provide(gateway, target)
        reporting = guarded("report", PASSES)
        digest = await provide(reporting, target)
    assert gateway.registry.canaries.newest(digest) is None
    assert digest == await provide(gateway, target)
    assert gateway.registry.canaries.newest(digest) is not None


async def test_a_slow_canary_ends(
    guarded: MakeCanary, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary has a time limit, and leaves no request behind."""
    monkeypatch.setattr("server.artifacts.canary._SECONDS", 0.05)
    gateway = guarded("enforce", *[PASSES] * 8)
    target = target_of(gateway, "cat(zorp, blim)")
    monkeypatch.setattr(FakeResponse, "read", lambda _: asyncio.sleep(60))
    with pytest.raises(CanaryUnanswered, match="longer than"):
        await provide(gateway, target)
    await asyncio.sleep(0)
    assert 0 == sum(engine.running.values())
    assert 0 == gateway.leases.total()


async def test_the_command_line_shows_the_result(guarded: MakeCanary, weft: Weft) -> None:
    """`weft artifacts show` has the result, or that the artifact was not asked."""
    gateway = guarded("report", PASSES, FAILS)
    digest = await provide(gateway, target_of(gateway, "cat(zorp, blim)"))
    shown = await asyncio.to_thread(weft, "artifacts", "show", digest)
    assert "failed 1 of 2 prompts" in " ".join(shown.output.split()), shown.output


def test_a_canary_needs_prompts(make_settings: Callable[..., Settings]) -> None:
    """A canary without a file of prompts stops the start."""
    with pytest.raises(ValidationError, match="needs the prompts of a canary_file"):
        make_settings(canary="enforce")
