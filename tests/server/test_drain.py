"""A server that is told to stop gives answers their time and ends the rest with an error."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from server.app import create_app
from server.gateway import Gateway
from server.preflight import bound_socket
from server.serve import GatewayServer
from tests.server.asgi import CHAT
from tests.server.conftest import MakeGateway
from tests.server.slow import SlowResponse


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[tuple[GatewayServer, httpx.AsyncClient]]:
    """Yield a server over real HTTP, and a client; wait for the server's end."""
    listens = asyncio.Event()

    async def ready(_stop: object) -> None:
        listens.set()

    server = GatewayServer(create_app(gateway), gateway, ready)
    with bound_socket("127.0.0.1", 0) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        running = asyncio.create_task(server.serve(sockets=[bound]))
        await listens.wait()
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield server, client
        await asyncio.wait_for(running, 10)


async def stream(client: httpx.AsyncClient, begun: asyncio.Event) -> str:
    """Return the events of a streamed answer; set `begun` at the first."""
    body = ""
    request = {"model": "zorp", "stream": True}
    async with client.stream("POST", CHAT, json=request) as response:
        async for part in response.aiter_text():
            body += part
            begun.set()
    return body


async def test_an_answer_may_end_in_its_time(make_gateway: MakeGateway, slow: SlowResponse) -> None:
    """An answer that ends within the time is whole."""
    begun = asyncio.Event()
    async with serving(make_gateway(drain_seconds=5)) as (server, client):
        streaming = asyncio.create_task(stream(client, begun))
        await begun.wait()
        server.stop()
        await asyncio.sleep(0.2)
        slow.go_on.set()
        assert (await streaming).endswith("data: [DONE]\n\n")


async def test_an_answer_that_takes_longer_ends_with_an_error(
    make_gateway: MakeGateway, slow: SlowResponse
) -> None:
    """After its time a stream ends with one error event, which names the reason, and the server
    stops."""
    begun, gateway = asyncio.Event(), make_gateway(drain_seconds=0.3)
    async with serving(gateway) as (server, client):
        streaming = asyncio.create_task(stream(client, begun))
        await begun.wait()
        stopped = time.monotonic()
        server.stop()
        first, last, rest = (await streaming).split("\n\n")
        assert 0.2 < time.monotonic() - stopped < 5
    assert ("data: first", "") == (first, rest)
    assert "server_stopping" == json.loads(last.removeprefix("data: "))["error"]["code"]
    assert gateway.leases.total() == 0


async def test_a_second_signal_ends_answers_at_once(
    make_gateway: MakeGateway, slow: SlowResponse
) -> None:
    """Whoever stops a server twice does not wait for answers."""
    begun = asyncio.Event()
    async with serving(make_gateway(drain_seconds=60)) as (server, client):
        streaming = asyncio.create_task(stream(client, begun))
        await begun.wait()
        server.stop()
        server.stop()
        try:
            body = await asyncio.wait_for(streaming, 5)
        except httpx.TransportError:
            return  # the connection may end before the event is sent
        assert "server_stopping" in body
