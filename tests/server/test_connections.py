"""Connections over real sockets: half-sent heads, and clients that read nothing."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvicorn

from server.app import create_app
from server.connections import limited_protocol
from server.engine.fake import FakeEngine, FakeResponse
from server.gateway import Gateway
from server.sse import EVENT_STREAM
from tests.server.asgi import CHAT

_SECONDS = 0.3
_PATIENCE_SECONDS = 10.0  # of a busy machine; the slow reader has not read all by then


@pytest.fixture
def port(gateway: Gateway) -> Iterator[int]:
    """The port of a server with short limits, on the test's gateway."""
    protocol = limited_protocol(header_seconds=_SECONDS, write_idle_seconds=_SECONDS)
    config = uvicorn.Config(
        create_app(gateway), host="127.0.0.1", port=0, log_level="error", http=protocol
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield int(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join()


def connected(port: int, *, window: int | None = None) -> socket.socket:
    """Return a connection whose reads end after five seconds; `window` bounds what it buffers."""
    connection = socket.socket()
    if window is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(5)
    connection.connect(("127.0.0.1", port))
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Return whether the other side closes the connection before it times out."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def test_half_sent_heads_are_dropped(port: int) -> None:
    """200 connections with half a head, or nothing at all, are closed after the limit, also when
    a byte comes now and then; a whole request beside them is answered."""
    half = [connected(port) for _ in range(200)]
    for connection in half[:150]:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost:")
    whole = connected(port)
    whole.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b"200 OK" in whole.recv(1000)
    whole.sendall(b"GET /health HTTP/1.1\r\n")  # the second head of a connection, too
    for _ in range(2):
        time.sleep(_SECONDS / 3)
        for connection in half[:50]:
            with suppress(ConnectionError):  # on a busy machine it is closed by now
                connection.sendall(b"x")
    assert all(map(is_closed, [*half, whole]))
    for connection in [*half, whole]:
        connection.close()


@pytest.mark.slow
def test_dropped_connections_leave_nothing(port: int, gateway: Gateway) -> None:
    """10,000 connections that are opened and dropped, with nothing, half a head or a whole request,
    leave no open socket, no lease and no thread behind; a request beside them is answered."""
    sent = (
        b"",
        b"GET /health HTTP/1.1\r\nhost:",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    )
    sockets, threads = open_sockets(), threading.active_count()
    beside = connected(port)
    for number in range(10_000):
        connection = connected(port)
        connection.sendall(chat("zorp", stream=True) if number % 100 == 0 else sent[number % 3])
        if number % 2:  # a reset instead of an end in order
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        if number % 2000 == 0:
            beside.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come apart
                answer += beside.recv(1000)
            assert b"200 OK" in answer
    beside.close()
    until = time.monotonic() + 20
    while (open_sockets() > sockets or gateway.leases.total()) and time.monotonic() < until:
        time.sleep(0.05)
    assert open_sockets() <= sockets
    assert 0 == gateway.leases.total()
    assert threading.active_count() < threads + 40  # the pools', which are bounded


def open_sockets() -> int:
    """Return the number of sockets that this process has open."""
    return sum(_target(link).startswith("socket:") for link in Path("/proc/self/fd").iterdir())


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # it was closed meanwhile
        return ""


def test_a_running_request_is_not_dropped(
    port: int, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may take longer than the limits; they are for heads and for stuck readers."""

    @asynccontextmanager
    async def send(_path: str, _body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        await asyncio.sleep(3 * _SECONDS)
        yield FakeResponse(200, {"content-type": "application/json"}, [b'{"ok":1}'], False)

    monkeypatch.setattr(engine, "send", send)
    with connected(port) as connection:
        connection.sendall(chat("zorp"))
        assert b"200 OK" in connection.recv(1000)


def test_a_client_that_never_reads_loses_its_stream_and_its_lease(
    port: int, gateway: Gateway, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the limit its connection is cut, the engine's stream is closed and the lease free; a
    slow reader of the same stream keeps it."""
    closed: list[bool] = []

    @asynccontextmanager
    async def send(_path: str, _body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        try:
            parts = [b"data: " + b"x" * 65536 + b"\n\n"] * 400
            yield FakeResponse(200, {"content-type": EVENT_STREAM}, parts, False)
        finally:
            closed.append(True)

    monkeypatch.setattr(engine, "send", send)
    stuck, slow = connected(port, window=4096), connected(port, window=65536)
    stuck.sendall(chat("zorp", stream=True))
    slow.sendall(chat("blim", stream=True))
    until = time.monotonic() + _PATIENCE_SECONDS
    received = 0
    while (streams := (len(closed), gateway.leases.total())) != (1, 1):
        assert time.monotonic() < until, streams
        received += len(slow.recv(32768))
        time.sleep(_SECONDS / 20)
    assert received
    stuck.close()
    slow.close()


def chat(model: str, *, stream: bool = False) -> bytes:
    """Return the bytes of a chat request."""
    body = json.dumps({"model": model, "stream": stream, "messages": []}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
