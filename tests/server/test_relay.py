"""A request from body to last byte, over ASGI by hand: disconnects, broken answers, relayed
bytes.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import ASGIApp

from server.app import create_app
from server.engine.fake import FakeEngine, FakeResponse
from server.engine.protocol import EngineUnavailable
from server.gateway import Gateway
from tests.server.asgi import CHAT, COMPLETIONS, Exchange, ask
from tests.server.conftest import BASE, MakeGateway
from tests.server.slow import SlowResponse
from tests.server.test_build import left_over


@pytest.fixture
def app(gateway: Gateway) -> ASGIApp:
    """The HTTP app of the test's gateway."""
    return create_app(gateway)


def idle(gateway: Gateway, engine: FakeEngine) -> bool:
    """Return whether no request leaves anything behind."""
    return gateway.leases.total() == 0 and not +engine.running


async def test_bytes_flow_as_they_come(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine, slow: SlowResponse
) -> None:
    """The first event reaches the client before the engine sends the second."""
    exchange = ask("zorp", stream=True)
    running = asyncio.create_task(exchange.run(app))
    await asyncio.wait_for(exchange.started.wait(), 5)
    await asyncio.sleep(0.01)
    assert (b"data: first\n\n", False) == (exchange.body, exchange.complete)
    assert (1, 1) == (gateway.leases.total(), engine.running.total())
    slow.go_on.set()
    await running
    assert (b"data: first\n\ndata: [DONE]\n\n", True) == (exchange.body, exchange.complete)
    assert idle(gateway, engine)


async def test_a_client_that_leaves_a_stream_ends_it_everywhere(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine, slow: SlowResponse
) -> None:
    """A disconnect in a stream ends the engine's request and releases the lease at once."""
    exchange = ask("zorp", stream=True)
    running = asyncio.create_task(exchange.run(app))
    await asyncio.wait_for(exchange.started.wait(), 5)
    exchange.hang_up()
    await asyncio.wait_for(running, 5)
    assert idle(gateway, engine)
    assert not exchange.complete


async def test_a_client_that_leaves_before_the_answer_ends_the_work(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine, slow: SlowResponse
) -> None:
    """A disconnect before the answer ends the engine's request, and nothing is sent."""
    slow.headers = {"content-type": "application/json"}
    exchange = ask("zorp")
    running = asyncio.create_task(exchange.run(app))
    while not engine.running.total():
        await asyncio.sleep(0.001)
    exchange.hang_up()
    await asyncio.wait_for(running, 5)
    assert ([], True) == (exchange.sent, idle(gateway, engine))


async def test_a_client_that_leaves_during_a_merge_leaves_the_merge_to_others(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine
) -> None:
    """The merge of a disconnected client is finished and serves the next request."""
    leaver, stayer = ask("cat(zorp, blim)"), ask("cat(zorp, blim)")
    leaving, staying = (asyncio.create_task(one.run(app)) for one in (leaver, stayer))
    while not left_over(gateway):
        await asyncio.sleep(0.001)
    leaver.hang_up()
    await asyncio.wait_for(asyncio.gather(leaving, staying), 20)
    assert ([], 200) == (leaver.sent, stayer.status)
    assert idle(gateway, engine)


async def test_a_shut_down_ends_the_request(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine, slow: SlowResponse
) -> None:
    """Cancelling the request, as a stopping server does, leaves nothing behind."""
    exchange = ask("zorp", stream=True)
    running = asyncio.create_task(exchange.run(app))
    await asyncio.wait_for(exchange.started.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert idle(gateway, engine)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("model", [BASE, "zorp"])
async def test_a_stream_that_breaks_off_ends_with_one_error_event(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine, path: str, model: str
) -> None:
    """After the first byte an error is one event in OpenAI's shape, the last, without [DONE]."""
    engine.breaks = True
    exchange = ask(model, path=path, stream=True)
    await exchange.run(app)
    events = [part.removeprefix(b"data: ") for part in exchange.body.split(b"\n\n") if part]
    errors = [json.loads(event) for event in events if b'"error"' in event]
    assert (200, True, 1) == (exchange.status, exchange.complete, len(errors))
    assert (
        "engine_unavailable"
        == errors[0]["error"]["code"]
        == json.loads(events[-1])["error"]["code"]
    )
    assert b"[DONE]" not in exchange.body
    assert idle(gateway, engine)


async def test_an_answer_that_breaks_off_is_503(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine
) -> None:
    """If nothing was sent yet, a broken answer is 503 with Retry-After."""
    engine.breaks = True
    exchange = ask("zorp")
    await exchange.run(app)
    assert (503, "engine_unavailable") == (
        exchange.status, json.loads(exchange.body)["error"]["code"],
    )  # fmt: skip
    assert int(exchange.headers["retry-after"]) > 0
    assert idle(gateway, engine)


async def test_an_engine_that_lost_its_memory_unnoticed_is_loaded_again(
    app: ASGIApp, engine: FakeEngine
) -> None:
    """The engine's 404 for a loaded digest means a restart: the adapter is loaded and requested
    again.
    """
    await ask("zorp").run(app)
    engine.loaded.clear()
    exchange = ask("zorp")
    await exchange.run(app)
    assert (200, 2) == (exchange.status, len(engine.loads))


async def test_an_adapter_that_did_not_load_for_a_request_is_loaded_again(
    app: ASGIApp, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's 400 for an adapter that another gateway has removed, and that did not load again
    for this request, is not the client's: it is loaded and requested again."""
    body = b'{"error": {"message": "LoRA adapter x was found but could not be loaded."}}'
    refusals = [FakeResponse(400, {"content-type": "application/json"}, [body], False)]
    answer = engine._answer
    monkeypatch.setattr(
        engine, "_answer", lambda *words: refusals.pop() if refusals else answer(*words)
    )
    exchange = ask("zorp")
    await exchange.run(app)
    assert (200, 2) == (exchange.status, len(engine.bodies))


async def test_an_adapter_that_the_engine_will_not_know_is_its_404(
    app: ASGIApp, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is repeated once; the second 404 is the answer."""
    asked = 0

    async def forgetful(_digest: str) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(engine, "load", forgetful)
    exchange = ask("zorp")
    await exchange.run(app)
    assert (404, 2, 2) == (exchange.status, asked, len(engine.bodies))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("cause", ["engine", "server"])
async def test_what_is_in_flight_ends_with_a_lost_engine_and_a_stopping_server(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine, slow: SlowResponse, stream: bool, cause: str
) -> None:
    """An answer that has begun ends with one error event without [DONE]; one that has not is 503
    with Retry-After. Leases are released. After an outage requests are answered again."""
    if not stream:
        slow.headers = {"content-type": "application/json"}
    exchange = ask("zorp", stream=stream)
    running = asyncio.create_task(exchange.run(app))
    while not (exchange.body or (engine.running.total() and not stream)):
        await asyncio.sleep(0.001)
    if cause == "engine":
        engine.lost.declare("its core hangs")
    else:
        gateway.stopping.cut()
    await asyncio.wait_for(running, 5)
    code = {"engine": "engine_unavailable", "server": "server_stopping"}[cause]
    if stream:
        first, last, rest = exchange.body.split(b"\n\n")
        assert (200, b"data: first", b"") == (exchange.status, first, rest)
        error = json.loads(last.removeprefix(b"data: "))["error"]
    else:
        assert (503, True) == (exchange.status, int(exchange.headers["retry-after"]) > 0)
        error = json.loads(exchange.body)["error"]
    assert (code, True) == (error["code"], exchange.complete)
    assert idle(gateway, engine)
    slow.go_on.set()
    await (later := ask("zorp")).run(app)
    assert later.status == (200 if cause == "engine" else 503)


async def test_an_error_event_does_not_join_half_of_an_event(
    app: ASGIApp, engine: FakeEngine, slow: SlowResponse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the engine is lost in the middle of an event, clients get the error and no half event."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b'data: {"choi'
        await slow.go_on.wait()

    monkeypatch.setattr(slow, "chunks", chunks)
    exchange = ask("zorp", stream=True)
    running = asyncio.create_task(exchange.run(app))
    await asyncio.wait_for(exchange.started.wait(), 5)
    await asyncio.sleep(0.01)
    engine.lost.declare("its core hangs")
    await asyncio.wait_for(running, 5)
    assert exchange.body.startswith(b'data: {"error"')


async def test_an_engine_s_own_errors_are_relayed(
    app: ASGIApp, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's error for an invalid parameter is relayed byte for byte."""

    @asynccontextmanager
    async def refuse(_path: str, _body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        yield FakeResponse(400, {"content-type": "application/json"}, [b'{"no": ', b"1}"], False)

    monkeypatch.setattr(engine, "send", refuse)
    exchange = ask(BASE)
    await exchange.run(app)
    assert (400, b'{"no": 1}') == (exchange.status, exchange.body)


async def test_an_engine_that_dies_in_between_is_503(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that fails between load and request is 503 and leaves no lease."""

    @asynccontextmanager
    async def gone(_path: str, _body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        raise EngineUnavailable("gone")
        yield

    monkeypatch.setattr(engine, "send", gone)
    exchange = ask("zorp")
    await exchange.run(app)
    assert (503, True) == (exchange.status, idle(gateway, engine))


async def test_the_engine_gets_the_body_with_the_model_replaced(
    app: ASGIApp, engine: FakeEngine
) -> None:
    """The engine receives the client's body unchanged except for `model` and `cache_salt`."""
    written: dict[str, Any] = {"temperature": 0.5, "extra": {"deep": [1, None, "é"]}, "seed": 2**63}
    exchange = ask("  zorp@prod ", **written)
    await exchange.run(app)
    (body,) = engine.bodies
    answered_by = body.pop("model")
    assert body.pop("cache_salt")
    assert (written | {"stream": False}, {answered_by}) == (body, engine.loaded)


async def test_a_base_request_touches_nothing(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine
) -> None:
    """The base needs no lease, file or load, and its timing has only resolve and engine."""
    exchange = ask(BASE)
    await exchange.run(app)
    assert ([], frozenset()) == (engine.loads, gateway.artifacts.digests())
    stages = [
        part.strip().partition(";")[0] for part in exchange.headers["server-timing"].split(",")
    ]
    assert ["resolve", "engine"] == stages


async def test_a_body_at_the_limit_is_read_and_one_above_is_refused(
    make_gateway: MakeGateway,
) -> None:
    """The limit counts the bytes of all chunks."""
    app = create_app(make_gateway(chat_max_bytes=100))
    body = json.dumps({"model": BASE}).encode()
    fits = Exchange(CHAT, body, b" " * (100 - len(body)))
    await fits.run(app)
    above = Exchange(CHAT, body, b" " * (101 - len(body)))
    await above.run(app)
    assert (200, 413) == (fits.status, above.status)
    assert "larger than the 100 bytes" in json.loads(above.body)["error"]["message"]


@pytest.mark.parametrize(
    "asks", [{"prompt_logprobs": 0}, {"prompt_logprobs": 1}, {"echo": True, "logprobs": 0}]
)
async def test_prompt_logprobs_are_refused_where_they_cannot_be_right(
    app: ASGIApp, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, asks: dict[str, Any]
) -> None:
    """An adapter with an lm_head pair cannot give them: 400, before the engine is asked."""
    from server.openai import relay

    class Folder:
        modules = ("lm_head",)

    monkeypatch.setattr(relay, "open_folder", lambda _path: Folder)
    exchange = ask("zorp", path=COMPLETIONS, **asks)
    await exchange.run(app)
    error = json.loads(exchange.body)["error"]
    assert (400, "prompt_logprobs") == (exchange.status, error["param"])
    assert gateway.leases.total() == 0


async def test_prompt_logprobs_are_given_by_other_adapters(app: ASGIApp) -> None:
    """A request for prompt log-probabilities of an adapter without an lm_head pair is relayed."""
    exchange = ask("zorp", path=COMPLETIONS, prompt_logprobs=1)
    await exchange.run(app)
    assert exchange.status == 200


async def test_many_clients_that_leave_at_any_moment_leave_nothing(
    app: ASGIApp, gateway: Gateway, engine: FakeEngine
) -> None:
    """Disconnects at any moment leave no lease and no engine request."""
    exchanges = [
        ask(model, stream=n % 2 == 0)
        for n, model in enumerate(["zorp", "blim", "cat(zorp, blim)", BASE] * 15)
    ]
    running = [asyncio.create_task(exchange.run(app)) for exchange in exchanges]
    for n, exchange in enumerate(exchanges):
        if n % 3:
            await asyncio.sleep(0.001 * (n % 5))
            exchange.hang_up()
    await asyncio.wait_for(asyncio.gather(*running), 30)
    assert idle(gateway, engine)
    assert {200} == {e.status for n, e in enumerate(exchanges) if n % 3 == 0}


async def test_a_client_that_leaves_while_it_uploads_is_no_fault_of_ours(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A disconnect in the body ends the request without a log entry."""
    exchange = Exchange(CHAT, b'{"model": ', hang_up_in_body=True)
    await asyncio.wait_for(exchange.run(create_app(gateway)), 5)
    assert ([], "") == (exchange.sent, caplog.text)


async def test_a_deletion_by_hand_during_a_request_is_no_fault(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that vanish between check and use are built again."""
    touch, vanished = gateway.artifacts.touch, list[str]()

    def touch_late(digest: str) -> bool:
        if not vanished:
            vanished.append(digest)
            shutil.rmtree(gateway.artifacts.path(digest))
        return touch(digest)

    monkeypatch.setattr(gateway.artifacts, "touch", touch_late)
    exchange = ask("cat(zorp, blim)")
    await exchange.run(create_app(gateway))
    assert exchange.status == 200, json.loads(exchange.body)
