"""What reaches the engine of a request's body: the salt of its caller, and no controls."""

from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from registry.service import Registry
from server.app import create_app
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server.conftest import BASE, MakeClient, MakeGateway

MESSAGES = [{"role": "user", "content": "Hello"}]
CONTROLS = {
    "priority": -1000, "request_id": "mine", "session_id": "s", "kv_transfer_params": {"a": 1},
    "ec_transfer_params": {"b": 2},
}  # fmt: skip


async def ask(app: Any, key: str, path: str = "chat/completions", /, **more: Any) -> None:
    """Send a request with a key."""
    headers = {"authorization": f"Bearer {key}"}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as client:
        body = {"model": BASE, "messages": MESSAGES, "prompt": "Hello"} | more
        response = await client.post(f"/v1/{path}", json=body, headers=headers)
    assert response.status_code == 200, response.text


async def test_every_namespace_has_a_salt_of_its_own(
    gateway: Gateway, registry: Registry, engine: FakeEngine, make_gateway: MakeGateway
) -> None:
    """Keys of one namespace share a salt, which no other namespace has, nor a key without one.

    What a client sends as its salt is replaced. Every gateway of a registry gives the same salts.
    """
    keys = registry.access.keys
    scopes = {
        "a": {"namespace": "team"}, "b": {"namespace": "team"}, "c": {"namespace": "other"},
        "d": {}, "e": {}, "f": {"all_namespaces": True},
    }  # fmt: skip
    made = {name: keys.create(name, role="chat", **scope)[1] for name, scope in scopes.items()}  # type: ignore[arg-type]
    salts: list[list[object]] = []
    for app in (create_app(gateway), create_app(make_gateway())):
        engine.bodies.clear()
        for key in made.values():
            await ask(app, key, cache_salt="mine")
            await ask(app, key, "completions")
        salts.append([body["cache_salt"] for body in engine.bodies])
    first = salts[0]
    assert salts[0] == salts[1]
    assert first[::2] == first[1::2]
    assert first[0] == first[2]
    assert 5 == len(set(first))
    assert "mine" not in first
    assert all(isinstance(salt, str) and len(salt) == 64 for salt in first)


async def test_controls_of_the_engine_are_the_operators(
    gateway: Gateway, registry: Registry, engine: FakeEngine
) -> None:
    """Priority, ids and cache transfers reach the engine from admins of everything only."""
    keys, app = registry.access.keys, create_app(gateway)
    for name, role, scope in (
        ("chat", "chat", {}), ("boss", "admin", {"namespace": "team"}),
        ("reader", "chat", {"all_namespaces": True}), ("root", "admin", {"all_namespaces": True}),
    ):  # fmt: skip
        _, key = keys.create(name, role=role, **scope)  # type: ignore[arg-type]
        await ask(app, key, "chat/completions", seed=7, **CONTROLS)
        assert 7 == engine.bodies[-1]["seed"]
        expected = CONTROLS if name == "root" else {}
        assert expected == {k: v for k, v in engine.bodies[-1].items() if k in CONTROLS}


@pytest.mark.parametrize(
    "more",
    [{"n": 9}, {"n": "9"}, {"n": 9.0}, {"best_of": 9}, {"n": 1, "best_of": 9},
     {"n": 16384, "use_beam_search": True}, {"prompt": ["x"] * 9}, {"prompt": [[1]] * 9},
     {"n": 3, "prompt": ["x"] * 3}],
)  # fmt: skip
async def test_answers_of_one_request_are_limited(
    make_gateway: MakeGateway, make_client: MakeClient, engine: FakeEngine, more: dict[str, Any]
) -> None:
    """Choices, beams and prompts multiply; beyond the limit the request is refused."""
    async with make_client(make_gateway(max_answers=8)) as client:
        body = {"model": BASE, "prompt": "Hello"} | more
        response = await client.post("/v1/completions", json=body)
    assert response.status_code == 400
    assert "WEFT_MAX_ANSWERS" in response.json()["error"]["message"]
    assert [] == engine.bodies


@pytest.mark.parametrize(
    "more", [{"n": 8}, {"n": None}, {"n": "many"}, {"prompt": ["x"] * 8}, {"prompt": [1] * 9},
             {"n": 4, "prompt": ["x", "y"]}, {"prompt": []}],
)  # fmt: skip
async def test_fewer_answers_pass_unchanged(
    make_gateway: MakeGateway, make_client: MakeClient, engine: FakeEngine, more: dict[str, Any]
) -> None:
    """A list of tokens is one prompt, and what is no number is left to the engine to refuse."""
    async with make_client(make_gateway(max_answers=8)) as client:
        response = await client.post("/v1/completions", json={"model": BASE, "prompt": "x"} | more)
    assert response.status_code == 200
    assert more == {name: engine.bodies[0][name] for name in more}
