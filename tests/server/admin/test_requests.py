"""`GET /registry/requests`: the newest requests for inference, and whose each caller is told of."""

from typing import Any

import pytest
from httpx import AsyncClient

from server.gateway import Gateway
from server.telemetry import record
from server.telemetry.recent_requests import MOST, RecentRequests
from tests.server.admin.conftest import ClientOf, items, problem
from tests.server.asgi import CHAT

REQUESTS = "/registry/requests"


async def chat(client: AsyncClient, model: str = "zorp", **fields: Any) -> int:
    """Send one chat request and return its status."""
    messages = [{"role": "user", "content": "a secret prompt"}]
    return (
        await client.post(CHAT, json={"model": model, "messages": messages} | fields)
    ).status_code


async def test_a_request_is_told_with_its_stages(admin: AsyncClient) -> None:
    """The newest request comes first, with its id, its model, the parts of its time, its tokens."""
    assert 200 == await chat(admin)
    assert 200 == await chat(admin, "cat(zorp, blim)", stream=True)
    merged, single = items(await admin.get(REQUESTS))
    assert ("all-admin", CHAT, "cat", 200, "done") == (
        merged["key"], merged["path"], merged["kind"], merged["status"], merged["outcome"],
    )  # fmt: skip
    assert {"resolve", "merge", "load", "engine"} == set(merged["stages"])
    assert 0 < merged["first_byte_seconds"] <= merged["seconds"]
    assert 64 == len(merged["model"])
    assert "stored" == single["kind"]
    assert merged["at"] >= single["at"]


async def test_a_refusal_is_told_with_its_code(admin: AsyncClient) -> None:
    """A request that was refused has its status and code, and can be asked for alone."""
    await chat(admin)
    assert 404 == await chat(admin, "nothing")
    (refused,) = items(await admin.get(REQUESTS, params={"outcome": "refused"}))
    assert (404, "model_not_found", "unresolved", None) == (
        refused["status"], refused["error"], refused["kind"], refused["first_byte_seconds"],
    )  # fmt: skip
    assert 1 == len(items(await admin.get(REQUESTS, params={"limit": 1})))


async def test_callers_are_told_of_their_own_requests(
    client_of: ClientOf, gateway: Gateway, admin: AsyncClient
) -> None:
    """A key sees its own requests, a namespace's admin those of its keys, an operator all."""
    one, other = await client_of("chat", "team"), await client_of("publish", "team")
    far = await client_of("chat", "other")
    for client in (one, other, far):
        await chat(client)
    team_admin = await client_of("admin", "team")
    seen = {
        name: {request["key"] for request in items(await client.get(REQUESTS))}
        for name, client in {
            "one": one, "far": far, "team": team_admin, "all": admin,
        }.items()
    }  # fmt: skip
    assert {
        "one": {"team-chat"}, "far": {"other-chat"}, "team": {"team-chat", "team-publish"},
        "all": {"team-chat", "team-publish", "other-chat"},
    } == seen  # fmt: skip


async def test_neither_prompts_nor_keys_are_kept(admin: AsyncClient) -> None:
    """What is told holds no word of a prompt, of an answer, or of a key."""
    await chat(admin)
    text = (await admin.get(REQUESTS)).text
    assert "secret" not in text
    assert admin.headers["authorization"].removeprefix("Bearer ") not in text


async def test_other_routes_are_not_requests_for_inference(admin: AsyncClient) -> None:
    """Only requests for inference are remembered."""
    await admin.get("/registry/adapters")
    assert [] == items(await admin.get(REQUESTS))


def test_the_oldest_requests_are_forgotten() -> None:
    """No more than a thousand requests are kept, whatever their number."""
    recent = RecentRequests()
    from registry.callers import Caller

    for number in range(MOST + 5):
        record.begin(f"r{number}")
        recent.add(CHAT, 200, 0.1, None)
    kept = [ended.record.id for ended in recent.newest(Caller("operator"))]
    assert (MOST, f"r{MOST + 4}", "r5") == (len(kept), kept[0], kept[-1])


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"outcome": "odd"}])
async def test_other_questions_are_refused(admin: AsyncClient, query: dict[str, str]) -> None:
    """A limit out of range and an unknown outcome are refused."""
    problem(await admin.get(REQUESTS, params=query), 400, "invalid_request")
