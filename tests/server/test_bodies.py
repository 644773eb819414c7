"""Bodies: how large, how many, how slow, how deep; and who is refused before one is read."""

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import psutil
import pytest
from fastapi.routing import APIRoute
from httpx import AsyncClient, Response

from server.app import create_app
from server.bodies import (
    MAX_CHAT_VALUES,
    MAX_JSON_VALUES,
    LimitBodies,
    check_values,
    read_json,
)
from server.errors import RequestInvalid
from server.gateway import Gateway
from tests.growth import LINEAR, cpu_seconds, growth
from tests.server.asgi import CHAT, Exchange, ask
from tests.server.conftest import BASE, MakeClient, MakeGateway

MIB = 2**20


async def pieces(size: int, piece: bytes = b" " * 65536) -> AsyncIterator[bytes]:
    """Yield a body of `size` bytes piece by piece."""
    for _ in range(0, size, len(piece)):
        yield piece


def code(response: Response) -> object:
    """Return the code of an error in either format."""
    body = response.json()
    return body["error"]["code"] if "error" in body else body["code"]


def refused(raw: bytes) -> None:
    """Measure a document that has too many values."""
    with pytest.raises(RequestInvalid):
        check_values(raw, 1000)


async def test_the_role_is_checked_before_the_body_is_read(
    gateway: Gateway,
) -> None:
    """20 MiB from a `read` key to a route of admins: 403, and not a byte of it is received."""
    _, key = gateway.registry.access.keys.create("reader", role="read")
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    exchange = Exchange("/registry/keys", *[b" " * MIB] * 20)
    exchange._scope["headers"] = [(n.encode(), v.encode()) for n, v in headers.items()]
    await exchange.run(create_app(gateway))
    assert (403, 21) == (exchange.status, len(exchange._messages))


async def test_a_body_above_the_limit_of_its_route_is_413_and_is_not_kept(
    gateway: Gateway, make_client: MakeClient
) -> None:
    """A body that declares or reaches too much is 413 in the format of its route."""
    process = psutil.Process()
    async with make_client(gateway) as client:
        before = process.memory_info().rss
        sent = json.dumps({"name": "x", "role": "read"}).encode()
        declared = await client.post(
            "/registry/keys", content=sent,
            headers={"content-type": "application/json", "content-length": str(300 * MIB)},
        )  # fmt: skip
        # httpx gathers an ASGI body: 40 MiB are enough to see who else keeps it.
        reached = await client.post("/v1/fine_tuning/jobs", content=pieces(40 * MIB))
        after = process.memory_info().rss
    assert [413, 413] == [declared.status_code, reached.status_code]
    assert ["body_too_large"] * 2 == [code(declared), code(reached)]
    assert declared.headers["content-type"] == "application/problem+json"
    assert "close" == declared.headers["connection"]
    assert after - before < 60 * MIB


@pytest.mark.parametrize("path", ["/registry/keys", "/v1/fine_tuning/jobs", CHAT])
async def test_brackets_do_not_stall_the_loop(
    client: AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is all brackets, as long as its route takes, is refused without being parsed."""
    size = (4 if path == CHAT else 1) * MIB - 20
    body = b'{"x":[' + b"[]," * (size // 3) + b"[]]}"
    parsed: list[object] = []
    monkeypatch.setattr(msgspec.json, "decode", lambda raw, **_: parsed.append(raw))
    headers = {"content-type": "application/json"}
    response = await client.post(path, content=body, headers=headers)
    assert (400, "invalid_request") == (response.status_code, code(response))
    assert [] == parsed
    assert growth(lambda n: lambda: refused(b"[]," * n), size // 3) < LINEAR


async def test_bodies_of_all_requests_share_a_budget(make_gateway: MakeGateway) -> None:
    """Above the budget a request is 503 with Retry-After, until an earlier one has ended."""
    app = create_app(make_gateway(bodies_max_bytes=1000))
    body = json.dumps({"model": BASE, "prompt": "x" * 600}).encode()
    waiting = Exchange(CHAT, body[:700], hang_up_in_body=True)
    waiting.gone.clear()
    first = asyncio.create_task(waiting.run(app))
    await asyncio.sleep(0.05)
    second = ask(BASE, prompt="x" * 600)
    await second.run(app)
    assert (503, "1") == (second.status, second.headers["retry-after"])
    assert "server_busy" == json.loads(second.body)["error"]["code"]
    waiting.hang_up()
    await first
    third = ask(BASE, prompt="x" * 600)
    await third.run(app)
    assert 200 == third.status


async def test_a_body_that_does_not_arrive_is_408(make_gateway: MakeGateway) -> None:
    """A body that trickles has one limit of time for all of it."""
    app = create_app(make_gateway(body_seconds=0.1))
    for path in (CHAT, "/registry/keys", "/v1/files"):
        stuck = Exchange(path, b"--x\r\n", hang_up_in_body=True)
        if path == "/v1/files":
            form = (b"content-type", b"multipart/form-data; boundary=x")
            stuck._scope["headers"] = [form, (b"host", b"localhost")]
        stuck.gone.clear()
        await asyncio.wait_for(stuck.run(app), 5)
        assert 408 == stuck.status, path


@pytest.mark.parametrize(
    ("raw", "fits"),
    [
        (b"[1,2,3]", True),
        (b"[1,2,3,4]", False),
        (b'["a,b,c,[{d", "e,f"]', True),
        (rb'["\",,,,,\\", "\\\\"]', True),
        (b'{"a":1,"b":[2,3]}', False),
    ],
)
def test_values_are_counted_outside_of_texts(raw: bytes, fits: bool) -> None:
    """Commas and brackets in texts are not counted."""
    if fits:
        check_values(raw, 4)
    else:
        with pytest.raises(RequestInvalid, match="more than 4 values"):
            check_values(raw, 4)


def test_texts_are_values_too() -> None:
    """A list of empty texts has as many values as texts."""
    with pytest.raises(RequestInvalid, match="values"):
        check_values(b"[" + b'"",' * 1000 + b'""]', 900)


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_a_document_that_is_too_deep_is_refused(depth: int) -> None:
    """Nesting beyond what the parser takes is an error of the request, not of the server."""
    with pytest.raises(RequestInvalid):
        read_json(b"[" * depth + b"]" * depth, max_values=2 * depth)


@pytest.mark.parametrize("values", [MAX_CHAT_VALUES, MAX_JSON_VALUES])
def test_the_largest_documents_are_parsed_quickly(values: int) -> None:
    """What the limits let through, some 50 ms of CPU, takes no longer than json's own parser."""
    raw = b"[" + b"{}," * (values // 2 - 2) + b"{}]"
    own = min(cpu_seconds(lambda: read_json(raw, max_values=values)) for _ in range(3))
    assert own < 2 * min(cpu_seconds(lambda: json.loads(raw)) for _ in range(3))


def test_a_prompt_of_numbers_fits() -> None:
    """The longest context as token numbers is below the limit."""
    assert read_json(json.dumps([1] * 128_000).encode(), max_values=MAX_CHAT_VALUES)


def test_every_route_with_a_json_body_has_a_limit(gateway: Gateway) -> None:
    """Only the two routes that stream an upload to disk are without a limit of bytes here."""
    limits = LimitBodies(lambda *_: asyncio.sleep(0), gateway.settings, gateway.bodies)
    unlimited = set()
    for route in create_app(gateway).routes:
        assert isinstance(route, APIRoute)
        path = route.path.replace("{name:path}", "team/name")
        if route.methods & {"POST", "PUT", "PATCH"} and limits._limit({"path": path}) is None:
            unlimited.add(route.path)
            assert route.body_field is None, route.path
    assert {"/v1/files", "/registry/adapters/{name:path}/-/versions"} == unlimited
