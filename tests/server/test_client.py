"""`VllmEngine` over real HTTP: the meaning of the plug-in's answers, and the relay of bytes."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from server.engine.client import Endpoint, Fixed, VllmEngine
from server.engine.protocol import (
    EngineAdapters,
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnavailable,
)

DIGEST = "d" * 64
Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def engine(handler: Handler) -> AsyncIterator[VllmEngine]:
    """Return a client of a server that reads a request's head and passes the rest to `handler`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await handler(head, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = VllmEngine(Fixed(Endpoint(f"http://127.0.0.1:{port}", "sesame")))
    try:
        yield client
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


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
        client.send("/v1/completions", b"{}") as response,
    ):
        assert (418, "application/json") == (response.status, response.headers["content-type"])
        assert await response.read() == b'{"tea": 1}'


async def test_a_body_can_be_read_twice() -> None:
    """A body that was read for its error can still be relayed."""
    async with (
        engine(answers(500, b"oops")) as client,
        client.send("/v1/completions", b"{}") as response,
    ):
        assert (b"oops", b"oops") == (await response.read(), await response.read())
        assert [b"oops"] == [chunk async for chunk in response.chunks()]


async def test_bytes_come_as_they_are_sent() -> None:
    """The first chunk arrives before the engine sends the second."""
    go_on = asyncio.Event()

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await writer.drain()

    async with engine(handle) as client, client.send("/v1/completions", b"{}") as response:
        chunks = response.chunks()
        assert await asyncio.wait_for(anext(chunks), 5) == b"first"
        go_on.set()
        assert [b"second"] == [chunk async for chunk in chunks]


async def test_an_engine_that_breaks_off_is_unavailable() -> None:
    """A connection that ends in the middle of a body is an error, not a short answer."""

    async def handle(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()

    async with engine(handle) as client, client.send("/v1/completions", b"{}") as response:
        with pytest.raises(EngineUnavailable, match="closed the connection"):
            await response.read()


async def test_an_engine_that_is_not_there_is_unavailable() -> None:
    """A refused connection is unavailable, for requests and for loads."""
    client = VllmEngine(Fixed(Endpoint("http://127.0.0.1:9")))
    with pytest.raises(EngineUnavailable, match="does not answer"):
        async with client.send("/v1/completions", b"{}"):
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
        async with client.send("/v1/completions", b"{}") as response:
            assert await anext(response.chunks()) == b"first"
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

    async with engine(handle) as client, client.send("/v1/completions", b"{}") as response:
        assert await response.read() == b'{"plain": 1}'
