"""Limits and usage of keys, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient, Response

from registry.access.usage import Counts, Slot
from registry.callers import KeyLimits, Role
from registry.service import Registry
from server.app import create_app
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server.conftest import BASE, MakeGateway, Weft

CHAT = {"model": BASE, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def gateway(make_gateway: MakeGateway) -> Gateway:
    """A gateway on which a key may make five requests and one composition a minute."""
    return make_gateway(limit_requests=5, limit_compositions=1)


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncClient]:
    """A client without a key."""
    transport = ASGITransport(create_app(gateway))
    async with AsyncClient(transport=transport, base_url="http://localhost") as made:
        yield made


def bearer(registry: Registry, name: str, role: Role = "chat", **more: Any) -> dict[str, str]:
    """Return the header of a new key."""
    return {"authorization": f"Bearer {registry.access.keys.create(name, role=role, **more)[1]}"}


def chat(client: AsyncClient, key: dict[str, str], **more: Any) -> Any:
    """Ask for a chat."""
    return client.post("/v1/chat/completions", json=CHAT | more, headers=key)


def limited(response: Response, kind: str) -> None:
    """Check a refusal."""
    assert response.status_code == 429, response.text
    error = response.json()["error"]
    assert ("rate_limit_exceeded", "rate_limit_error") == (error["code"], error["type"])
    assert "are left. Try again in" in error["message"]
    assert 1 <= int(response.headers["retry-after"]) <= 120
    assert "0" == response.headers[f"x-ratelimit-remaining-{kind}"]


async def test_a_key_that_asks_too_often_waits(client: AsyncClient, registry: Registry) -> None:
    """The sixth request is 429 with OpenAI's headers; another key is answered meanwhile."""
    first, second = bearer(registry, "first"), bearer(registry, "second")
    for left in range(4, -1, -1):
        response = await chat(client, first)
        assert response.status_code == 200
        assert str(left) == response.headers["x-ratelimit-remaining-requests"]
        assert "5" == response.headers["x-ratelimit-limit-requests"]
    limited(await chat(client, first), "requests")
    assert (await chat(client, second)).status_code == 200


async def test_a_key_has_limits_of_its_own(client: AsyncClient, registry: Registry) -> None:
    """A limit that is stored with a key replaces the server's."""
    key = bearer(registry, "few", limits=KeyLimits(requests=1, tokens=9))
    response = await chat(client, key)
    assert "x-ratelimit-limit-tokens" in response.headers
    limited(await chat(client, key), "requests")


async def test_a_key_that_may_never_is_not_told_to_wait(
    client: AsyncClient, registry: Registry
) -> None:
    """With a limit of 0 no time makes the request succeed: 429 without Retry-After."""
    key = bearer(registry, "none", limits=KeyLimits(requests=0))
    refused = await chat(client, key)
    assert refused.status_code == 429
    assert "An admin can raise its limit" in refused.json()["error"]["message"]
    assert "retry-after" not in refused.headers
    assert "0" == refused.headers["x-ratelimit-limit-requests"]


async def test_new_compositions_are_limited(client: AsyncClient, registry: Registry) -> None:
    """A second new composition waits; one that was built before is answered."""
    key = bearer(registry, "maker", namespace="team")
    first = {"model": "cat(zorp, blim)"}
    assert (await chat(client, key, **first)).status_code == 200
    limited(await chat(client, key, model="cat(blim, zorp)"), "compositions")
    assert (await chat(client, key, **first)).status_code == 200


async def test_usage_is_reported_by_key_and_day(
    gateway: Gateway, client: AsyncClient, registry: Registry
) -> None:
    """Requests, tokens of answers and streams, and builds are there; each caller sees its part."""
    boss = bearer(registry, "boss", "admin", namespace="team")
    other = bearer(registry, "other", namespace="other")
    root = bearer(registry, "root", "admin", all_namespaces=True)
    await chat(client, boss)
    await chat(client, boss, stream=True)
    await chat(client, boss, model="cat(zorp, blim)")
    await chat(client, other, model="nothing")
    await gateway.meter.flush()
    seen = {}
    for name, key in (("boss", boss), ("other", other), ("root", root)):
        items = (await client.get("/registry/usage", headers=key)).json()["items"]
        seen[name] = {item["key"]: item for item in items}
    assert (["boss"], ["other"], ["boss", "other"]) == tuple(map(list, seen.values()))
    own = seen["boss"]["boss"]
    words = len(f"answered by {BASE}".split(" "))
    assert (3, 15, 3 * words, 1, "team") == (
        own["requests"], own["prompt_tokens"], own["completion_tokens"], own["compositions"],
        own["namespace"],
    )  # fmt: skip
    assert own["build_seconds"] > 0
    assert (1, 0) == (seen["root"]["other"]["requests"], seen["root"]["other"]["prompt_tokens"])


@pytest.mark.parametrize(
    ("query", "keys"),
    [({}, ["a", "b", "a"]), ({"key": "a"}, ["a", "a"]), ({"namespace": "team"}, ["b"]),
     ({"since": "2026-11-28"}, ["a", "b"]), ({"until": "2026-11-27"}, ["a"])],
)  # fmt: skip
async def test_usage_is_filtered_and_paged(
    client: AsyncClient, registry: Registry, query: dict[str, str], keys: list[str]
) -> None:
    """Usage is filtered by key, namespace and days, and paged, newest day first."""
    minute = 1_795_824_000 // 60  # the first of 2026-11-28
    used = {
        Slot("a", None, minute): 1,
        Slot("b", "team", minute): 2,
        Slot("a", None, minute - 9): 3,
    }
    registry.access.usage.add({slot: Counts(requests=n) for slot, n in used.items()})
    root = bearer(registry, "root", "admin", all_namespaces=True)
    listed: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = query | ({"cursor": cursor} if cursor else {}) | {"limit": "1"}
        page = (await client.get("/registry/usage", params=params, headers=root)).json()
        listed += [item["key"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert keys == listed


async def test_a_stream_keeps_its_form(
    client: AsyncClient, registry: Registry, engine: FakeEngine
) -> None:
    """The gateway asks for the usage of every stream, and only clients that asked get it."""
    key = bearer(registry, "k")
    plain = await chat(client, key, stream=True)
    asked = await chat(client, key, stream=True, stream_options={"include_usage": True})
    assert "usage" not in plain.text
    assert "usage" in asked.text
    assert plain.text.endswith("data: [DONE]\n\n")
    assert all(body["stream_options"] == {"include_usage": True} for body in engine.bodies)
    whole = await chat(client, key)
    assert whole.status_code == 200
    assert "stream_options" not in engine.bodies[-1]


def test_the_command_line_sums_usage(weft: Weft, registry: Registry) -> None:
    """`weft usage` prints one row for each key, namespace or day."""
    slots = {Slot("a", "team", 1): 1, Slot("b", "team", 1): 2, Slot("a", "team", 2000): 4}
    registry.access.usage.add({slot: Counts(requests=n) for slot, n in slots.items()})
    for by, expected in (("key", "a 5"), ("namespace", "team 7"), ("day", "1970-01-02 4")):
        printed = " ".join(weft("usage", "--by", by).stdout.split())
        assert expected in printed.replace("│ ", "")
