"""`GET /v1/models`: what can be asked for by name."""

from pathlib import Path

from httpx import AsyncClient

from registry.service import Registry
from server.gateway import Gateway
from tests.adapters import make_adapter
from tests.server.conftest import BASE
from tests.server.test_api import compose, told


async def ids(client: AsyncClient) -> list[str]:
    """Return the ids that are listed."""
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    return [card["id"] for card in body["data"]]


async def test_base_adapters_aliases_and_compositions_are_listed(
    client: AsyncClient, gateway: Gateway
) -> None:
    """The base comes first, then every name and every alias of it."""
    compose(gateway, "mix", "cat(zorp, blim)")
    gateway.registry.versions.set_alias("mix", "best", 1, "test")
    listed = await ids(client)
    assert BASE == listed[0]
    assert {"zorp", "zorp@prod", "mix", "mix@best"} <= set(listed)
    assert len(listed) == len(set(listed)) == 1 + 8 * 2 + 2


async def test_every_listed_name_answers(client: AsyncClient, gateway: Gateway) -> None:
    """What is listed can be asked, and is found under its own address."""
    compose(gateway, "mix", "cat(zorp, blim)")
    for model in await ids(client):
        card = (await client.get(f"/v1/models/{model}")).json()
        assert model == card["id"]
        response = await client.post("/v1/completions", json={"model": model, "prompt": ""})
        assert response.status_code == 200


async def test_a_card_says_what_it_is(client: AsyncClient) -> None:
    """A card has OpenAI's fields, its kind and its parent base."""
    card = (await client.get("/v1/models/zorp")).json()
    created = card.pop("created")
    assert created > 1_700_000_000
    assert {
        "id": "zorp", "object": "model", "owned_by": "weft", "kind": "adapter", "parent": BASE,
    } == card  # fmt: skip


async def test_other_bases_adapters_are_not_listed(
    client: AsyncClient, registry: Registry, tmp_path: Path
) -> None:
    """Only what this server can answer is listed."""
    modules = {"model.layers.0.self_attn.q_proj": (16, 16)}
    registry.bases.add("acme/other", shapes=modules, architecture=None)
    folder = make_adapter(tmp_path / "foreign", modules=modules, base="acme/other")
    registry.adapters.register(folder, name="foreign")
    assert "foreign" not in await ids(client)


async def test_an_unknown_model_is_told_and_counted(client: AsyncClient) -> None:
    """404 in the envelope, counted, and nothing for the server's log to be alarmed about."""
    response = await client.get("/v1/models/nothing")
    assert (404, "model_not_found") == (response.status_code, told(response)["code"])
    text = (await client.get("/metrics")).text
    assert 'weft_requests_total{route="other",status="404"} 1.0' in text
