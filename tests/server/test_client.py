"""`VllmEngine` over real HTTP: the meaning of the plug-in's answers, and the relay of bytes."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext

import pytest

from server.engine import client as client_module
from server.engine.client import VllmEngine
from server.engine.link import Endpoint, Fixed, Outage
from server.engine.protocol import (
    EngineAdapters,
    EngineBusy,
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineUnavailable,
)

DIGEST = "d" * 64
Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def engine(
    handler: Handler, *, idle_seconds: float | None = None, outage: Outage | None = None
) -> AsyncIterator[VllmEngine]:
    """Return a client of a server that reads a request's head and passes the rest to `handler`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await handler(head, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = Fixed(Endpoint(f"http://127.0.0.1:{port}", "sesame"))
    link.outage = outage or link.outage
    client = VllmEngine(link, idle_seconds=idle_seconds)
    try:
        yield client
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


def in_two_parts(go_on: asyncio.Event) -> Handler:
    """Return a handler that sends "first" at once, and "second" after the event."""

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await writer.drain()

    return handle


def answers(status: int, body: bytes, *headers: str) -> Handler:
    """Return a handler with one complete answer."""

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return handle


@pytest.mark.parametrize(
    ("status", "expected"),
    [(422, EngineRefused), (409, EngineUnavailable), (401, EngineUnavailable),
     (500, EngineUnavailable), (503, EngineUnavailable)],
)  # fmt: skip
async def test_a_load_that_fails_says_whose_turn_it_is(
    status: int, expected: type[EngineError]
) -> None:
    """422 is a fault of the adapter; every other status can be retried and keeps the engine's
    message.
    """
    async with engine(answers(status, b'{"detail": "because"}')) as client:
        with pytest.raises(expected, match="because"):
            await client.load(DIGEST)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(409, EngineBusy), (401, EngineUnavailable), (500, EngineUnavailable)],
)
async def test_a_removal_that_fails_keeps_the_files(
    status: int, expected: type[EngineError]
) -> None:
    """A busy engine is distinguished from an unavailable one; neither has removed the adapter."""
    async with engine(answers(status, b"not JSON")) as client:
        with pytest.raises(expected, match="not JSON"):
            await client.remove(DIGEST)


async def test_requests_carry_the_key_and_the_digest() -> None:
    """Loads, removals and lists are the plug-in's routes, with the engine's key."""
    heads: list[str] = []
    body = json.dumps({"known": [DIGEST], "resident": [], "running": {DIGEST: 2}}).encode()

    async def handle(head: str, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await answers(200, body)(head, writer)

    async with engine(handle) as client:
        await client.load(DIGEST)
        await client.remove(DIGEST)
        adapters = await client.adapters()
    assert EngineAdapters(frozenset({DIGEST}), frozenset(), {DIGEST: 2}) == adapters
    assert [f"POST /weft/adapters/{DIGEST}", f"DELETE /weft/adapters/{DIGEST}",
            "GET /weft/adapters"] == [head.partition(" HTTP")[0] for head in heads]  # fmt: skip
    assert all("authorization: bearer sesame" in head.lower() for head in heads)


async def test_an_answer_is_relayed_with_its_status() -> None:
    """Status, content type and bytes are the engine's."""
    async with (
        engine(answers(418, b'{"tea": 1}', "content-type: application/json")) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        assert (418, "application/json") == (response.status, response.headers["content-type"])
        assert await response.read() == b'{"tea": 1}'


DEATHS = (
    (500, b'{"error": {"message": "EngineCore encountered an issue.", "code": 500}}'),
    (500, b'{"error": {"message": "EngineDeadError()", "code": 500}}'),
    (500, b"Internal Server Error"),
    (503, b""),
    (400, b'{"error": {"message": "LoRA adapter x was found but could not be loaded."}}'),
)
ALIVE = answers(200, b'{"known": [], "resident": [], "running": {}}')


def by_path(request: Handler, core: Handler) -> Handler:
    """Return a handler that answers probes of the core with `core`."""

    async def handle(head: str, writer: asyncio.StreamWriter) -> None:
        await (core if head.startswith("GET /weft/adapters ") else request)(head, writer)

    return handle


@pytest.mark.parametrize(("status", "body"), DEATHS)
@pytest.mark.parametrize("core", [500, 503, None])
async def test_a_lost_engine_s_error_is_unavailable_whatever_it_says(
    status: int, body: bytes, core: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 5xx of an engine whose core does not answer is a lost engine, for which clients wait, and
    so is the 400 for an adapter that it was loading then."""
    monkeypatch.setattr(client_module, "_EXAMINE_SECONDS", 0.2)

    async def never(_head: str, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)

    probe = never if core is None else answers(core, b"")
    async with engine(by_path(answers(status, body), probe)) as client:
        with pytest.raises(EngineUnavailable, match=f"answered {status}") as caught:
            async with client.send("/v1/completions", b"{}", model="base"):
                pass
    assert caught.value.retry_after_seconds > 0


async def test_a_live_engine_s_error_object_is_relayed_and_read_twice() -> None:
    """An error object of an engine whose core answers is about the request, and reaches the client
    as it is."""
    body = b'{"error": {"message": "cannot", "code": 501}}'
    async with (
        engine(by_path(answers(501, body), ALIVE)) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        assert (body, body) == (await response.read(), await response.read())
        assert [body] == [chunk async for chunk in response.chunks()]


@pytest.mark.parametrize(
    "body", [b"Internal Server Error", b"", b"[]", b'"error"', b'{"error": 1}']
)
async def test_a_live_engine_s_bare_500_is_a_failure_of_the_request(body: bytes) -> None:
    """A 5xx without an error object is told as the engine's failure on this request."""
    async with engine(by_path(answers(500, body), ALIVE)) as client:
        with pytest.raises(EngineFailed, match="500"):
            async with client.send("/v1/completions", b"{}", model="base"):
                pass


TOKEN_EVENT, ERROR_EVENT = b'data: {"choices": []}\n\n', b'data: {"error": {"code": 500}}\n\n'


@pytest.mark.parametrize("alive", [True, False])
async def test_an_error_event_is_examined_too(alive: bool) -> None:
    """vLLM ends a stream with an error event and [DONE] when its core dies: that is a lost engine;
    while the core answers, the event is about the request and is relayed."""
    stream = TOKEN_EVENT + ERROR_EVENT + b"data: [DONE]\n\n"
    answer = answers(200, stream, "content-type: text/event-stream; charset=utf-8")
    core = ALIVE if alive else answers(500, b"")
    received = b""
    lost = nullcontext() if alive else pytest.raises(EngineUnavailable, match="sent an error")
    async with (
        engine(by_path(answer, core)) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        with lost:
            async for chunk in response.chunks():
                received += chunk
    assert (stream if alive else TOKEN_EVENT) == received


async def test_an_answer_s_text_is_no_error_event() -> None:
    """A model that writes what an error event looks like is not examined."""
    text = json.dumps({"choices": [{"text": 'data: {"error": {}}\n\ndata: {"error"'}]})
    stream = f"data: {text}\n\n".encode()
    answer = answers(200, stream, "content-type: text/event-stream")
    async with (
        engine(by_path(answer, answers(500, b""))) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        assert stream == b"".join([chunk async for chunk in response.chunks()])


async def test_a_stream_that_falls_silent_is_ended() -> None:
    """After its first part an answer may pause for the idle limit; the first may take longer."""

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.3)
        writer.write(b"5\r\nfirst\r\n")
        await writer.drain()
        await asyncio.sleep(1)

    async with (
        engine(handle, idle_seconds=0.1) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        chunks = response.chunks()
        assert b"first" == await anext(chunks)
        with pytest.raises(EngineUnavailable, match=r"sent nothing for 0\.1 s"):
            await anext(chunks)


@pytest.mark.parametrize("begun", [True, False])
async def test_a_lost_engine_ends_what_it_is_asked(begun: bool) -> None:
    """When the engine is lost, its answers and calls end at once, though it keeps the connections;
    what is asked later is asked again."""
    asked, outage = asyncio.Event(), Outage()

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        if begun:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            await writer.drain()
        asked.set()
        await asyncio.sleep(60)

    async def whole(client: VllmEngine) -> bytes:
        async with client.send("/v1/completions", b"{}", model="base") as response:
            return await response.read()

    async with engine(handle, outage=outage) as client:
        for call in (whole(client), client.load(DIGEST), whole(client)):
            waiting = asyncio.create_task(call)
            await asyncio.wait_for(asked.wait(), 5)
            await asyncio.sleep(0.02)
            outage.declare("its core hangs")
            with pytest.raises(EngineUnavailable, match="its core hangs"):
                await asyncio.wait_for(waiting, 5)
            asked.clear()


async def test_a_slow_reader_is_not_taken_for_a_silent_engine() -> None:
    """The pause of a client that reads slowly does not count, however long it is."""
    more = asyncio.Event()

    async with (
        engine(in_two_parts(more), idle_seconds=0.1) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        chunks = response.chunks()
        assert b"first" == await anext(chunks)
        next_one = asyncio.ensure_future(anext(chunks))  # starts the clock
        await asyncio.sleep(0.02)
        more.set()
        assert b"second" == await next_one
        await asyncio.sleep(0.25)
        assert [] == [chunk async for chunk in chunks]


async def test_bytes_come_as_they_are_sent() -> None:
    """The first chunk arrives before the engine sends the second."""
    go_on = asyncio.Event()

    async with (
        engine(in_two_parts(go_on)) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        chunks = response.chunks()
        assert await asyncio.wait_for(anext(chunks), 5) == b"first"
        go_on.set()
        assert [b"second"] == [chunk async for chunk in chunks]


async def test_an_engine_that_breaks_off_is_unavailable() -> None:
    """A connection that ends in the middle of a body is an error, not a short answer."""

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()

    async with (
        engine(handle) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        with pytest.raises(EngineUnavailable, match="closed the connection"):
            await response.read()


async def test_an_engine_that_is_not_there_is_unavailable() -> None:
    """A refused connection is unavailable, for requests and for loads."""
    client = VllmEngine(Fixed(Endpoint("http://127.0.0.1:9")))
    with pytest.raises(EngineUnavailable, match="does not answer"):
        async with client.send("/v1/completions", b"{}", model="base"):
            pass
    with pytest.raises(EngineUnavailable, match="does not answer"):
        await client.load(DIGEST)
    await client.close()


async def test_leaving_ends_the_request_in_the_engine() -> None:
    """The connection is closed when the context is left, so that vLLM stops generating."""
    closed = asyncio.Event()

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        while not closed.is_set():
            try:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.005)
            except ConnectionError:
                closed.set()

    async with engine(handle) as client:
        async with client.send("/v1/completions", b"{}", model="base") as response:
            assert (await anext(response.chunks())).startswith(b"first")
        await asyncio.wait_for(closed.wait(), 5)


async def test_answers_are_not_compressed_on_the_way() -> None:
    """The client does not accept compression, so that a proxy never sends bytes whose encoding
    header is not relayed.
    """

    async def handle(head: str, writer: asyncio.StreamWriter) -> None:
        body, headers = b'{"plain": 1}', ["content-type: application/json"]
        if "gzip" in head.lower():
            body, headers = gzip.compress(body), [*headers, "content-encoding: gzip"]
        await answers(200, body, *headers)(head, writer)

    async with (
        engine(handle) as client,
        client.send("/v1/completions", b"{}", model="base") as response,
    ):
        assert await response.read() == b'{"plain": 1}'
