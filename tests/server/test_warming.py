"""`POST /registry/compositions/{name}/warm`: built and loaded before the first request."""

import pytest
from httpx import AsyncClient

from registry.service import Registry
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server.asgi import CHAT
from tests.server.conftest import BASE, MakeClient, Weft

WARM = "/registry/compositions/team/mix/warm"


async def test_a_warm_composition_waits_for_its_first_request(
    client: AsyncClient, engine: FakeEngine
) -> None:
    """The first request for a warm composition finds it merged and in the engine."""
    versions = "/registry/compositions/team/mix/-/versions"
    for expression in ("cat(zorp, 0.123*blim)", "cat(zorp, blim)"):
        await client.post(versions, json={"expression": expression})
    warmed = (await client.post(WARM, params={"version": "1"})).json()
    assert (True, {"resolve", "merge", "load"}) == (warmed["new_slot"], set(warmed["seconds"]))
    assert [warmed["artifact"]] == engine.loads
    body = {"model": "team/mix@1", "messages": [{"role": "user", "content": "zorp: x"}]}
    answer = await client.post(CHAT, json=body)
    assert ("kept", warmed["artifact"]) == (
        answer.headers["x-weft-slot"], answer.headers["x-weft-artifact"],
    )  # fmt: skip
    again = (await client.post(WARM, params={"version": "1"})).json()
    assert (False, warmed["artifact"]) == (again["new_slot"], again["artifact"])
    assert warmed["artifact"] != (await client.post(WARM)).json()["artifact"]


async def test_what_has_no_name_is_warmed_as_it_is_written(
    client: AsyncClient, engine: FakeEngine
) -> None:
    """An expression and the same composition object are merged and loaded once, before requests."""
    written = {"model": "cat(zorp, 0.25*blim)"}
    adapters = [{"name": "zorp"}, {"name": "blim", "weight": 0.25}]
    as_object = {"composition": {"method": "cat", "adapters": adapters}}
    first, again = [
        (await client.post("/registry/warm", json=body)).json() for body in (written, as_object)
    ]
    assert (True, False) == (first["new_slot"], again["new_slot"])
    assert [first["artifact"]] == engine.loads
    assert first["recipe"] == again["recipe"]


@pytest.mark.parametrize("model", [BASE, "zorp", "nothing", "cat(zorp", "  "])
async def test_only_merges_are_warmed(client: AsyncClient, model: str) -> None:
    """The base, single adapters, unknown names and mistakes are refused."""
    answer = await client.post("/registry/warm", json={"model": model})
    assert answer.status_code in (400, 404)
    assert answer.json()["code"] != "internal_error"


async def test_what_cannot_be_warmed_is_told(
    gateway: Gateway, make_client: MakeClient, registry: Registry
) -> None:
    """Adapters, unknown names and versions are refused, and so is the role read."""
    chat, read = (
        registry.access.keys.create(role, role=role, all_namespaces=True)[1]
        for role in ("chat", "read")
    )
    async with make_client(gateway) as client:
        for key, name, status, code in [
            (chat, "zorp", 400, "invalid_request"),
            (chat, "nothing", 404, "model_not_found"),
            (read, "zorp", 403, "access_denied"),
        ]:
            headers = {"authorization": f"Bearer {key}"}
            answer = await client.post(f"/registry/compositions/{name}/warm", headers=headers)
            assert (status, code) == (answer.status_code, answer.json()["code"])


def test_the_command_needs_a_server(weft: Weft, shared_workers: None) -> None:
    """`weft compositions warm` says that it needs an engine, which only a server has."""
    assert 0 == weft("compositions", "add", "mix", "cat(zorp, blim)").exit_code
    told = weft("compositions", "warm", "mix@1")
    assert (1, True) == (told.exit_code, "--server URL" in told.output), told.output
