"""`GET /v1/models`: the models that can be requested by name."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from httpx import AsyncClient

from registry.references import Reference
from registry.service import Registry
from server.gateway import Gateway
from tests.adapters import make_adapter
from tests.server.conftest import BASE, MakeClient
from tests.server.test_api import compose, told


async def ids(client: AsyncClient) -> list[str]:
    """Return the listed ids."""
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    return [card["id"] for card in body["data"]]


async def test_base_adapters_aliases_and_compositions_are_listed(
    client: AsyncClient, gateway: Gateway
) -> None:
    """The base comes first, then every name and its aliases."""
    compose(gateway, "mix", "cat(zorp, blim)")
    gateway.registry.versions.set_alias("mix", "best", 1, "test")
    listed = await ids(client)
    assert BASE == listed[0]
    assert {"zorp", "zorp@prod", "mix", "mix@best"} <= set(listed)
    assert len(listed) == len(set(listed)) == 1 + 8 * 2 + 2


async def test_every_listed_name_answers(client: AsyncClient, gateway: Gateway) -> None:
    """Every listed name can be requested and has its own address."""
    compose(gateway, "mix", "cat(zorp, blim)")
    for model in await ids(client):
        card = (await client.get(f"/v1/models/{model}")).json()
        assert model == card["id"]
        response = await client.post("/v1/completions", json={"model": model, "prompt": ""})
        assert response.status_code == 200


async def test_a_card_says_what_it_is(client: AsyncClient, digest_of: Callable[[str], str]) -> None:
    """A card has OpenAI's fields, its kind, its parent base and the digest that answers."""
    card = (await client.get("/v1/models/zorp")).json()
    created = card.pop("created")
    assert created > 1_700_000_000
    assert {
        "id": "zorp", "object": "model", "owned_by": "weft", "kind": "adapter", "parent": BASE,
        "digest": digest_of("zorp"),
    } == card  # fmt: skip


async def test_other_bases_adapters_are_not_listed(
    client: AsyncClient, registry: Registry, tmp_path: Path
) -> None:
    """Only models that this server can serve are listed."""
    modules = {"model.layers.0.self_attn.q_proj": (16, 16)}
    registry.bases.add("acme/other", shapes=modules, architecture=None)
    folder = make_adapter(tmp_path / "foreign", modules=modules, base="acme/other")
    registry.adapters.register(folder, name="foreign")
    assert "foreign" not in await ids(client)


async def test_an_unknown_model_is_told_and_counted(client: AsyncClient) -> None:
    """An unknown model is 404 in the envelope, is counted, and logs no error."""
    response = await client.get("/v1/models/nothing")
    assert (404, "model_not_found") == (response.status_code, told(response)["code"])
    text = (await client.get("/metrics")).text
    assert 'weft_requests_total{route="other",status="404"} 1.0' in text


@pytest.mark.parametrize(
    ("expression", "method", "weights", "rank"),
    [
        ("0.5*zorp + blim", "linear", [0.5, 1.0], 16),
        ("lego(zorp@1, blim@prod; rank=8)", "lego", [1.0, 1.0], 8),
    ],
)
async def test_an_expression_is_described_before_and_after_its_merge(
    client: AsyncClient, digest_of: Callable[[str], str],
    expression: str, method: str, weights: list[float], rank: int,
) -> None:  # fmt: skip
    """An expression has its parts, and after its first answer the digest."""
    path = f"/v1/models/{quote(expression)}"
    before = (await client.get(path)).json()
    assert (expression, "expression", BASE) == (before["id"], before["kind"], before["parent"])
    assert [digest_of("zorp"), digest_of("blim")] == [i["digest"] for i in before["ingredients"]]
    assert weights == [ingredient["weight"] for ingredient in before["ingredients"]]
    assert (method, rank, None) == (before["method"], before["options"]["rank"], before["digest"])
    answer = await client.post("/v1/completions", json={"model": expression, "prompt": ""})
    after = (await client.get(path)).json()
    assert answer.json()["model"] == after["digest"]
    artifact = (await client.get(f"/v1/models/{after['digest']}")).json()
    shared = ("digest", "recipe", "method", "options", "ingredients", "parent")
    assert {name: after[name] for name in shared} == {name: artifact[name] for name in shared}
    assert ("artifact", True) == (artifact["kind"], artifact["created"] > 1_700_000_000)


async def test_a_composition_is_described_with_its_parts(
    client: AsyncClient, gateway: Gateway
) -> None:
    """A composition's name, number and alias show its recipe's ingredients and options."""
    compose(gateway, "team/mix", "cat(zorp, 2*blim; scale=0.5)")
    gateway.registry.versions.set_alias("team/mix", "best", 1, "test")
    for model in ("team/mix", "team/mix@1", "team/mix@best"):
        card = (await client.get(f"/v1/models/{model}")).json()
        assert ("composition", "cat", None) == (card["kind"], card["method"], card["digest"])
        assert [1.0, 2.0] == [ingredient["weight"] for ingredient in card["ingredients"]]
        assert card["options"]["scale"] == 0.5


@pytest.mark.parametrize(
    ("expression", "status", "code"),
    [
        ("lego(zorp, blimm)", 404, "model_not_found"), ("zorp@9", 404, "model_not_found"),
        ("0" * 64, 404, "model_not_found"), ("lego(zorp", 400, "invalid_expression"),
        ("auto(; k=2)", 400, "invalid_retrieval"), ("nothing(zorp)", 400, "invalid_recipe"),
    ],
)  # fmt: skip
async def test_an_expression_that_means_nothing_is_told(
    client: AsyncClient, expression: str, status: int, code: str
) -> None:
    """The description refuses the same expressions as a request, in the same shape."""
    response = await client.get(f"/v1/models/{quote(expression)}")
    assert (status, code) == (response.status_code, told(response)["code"])


async def test_the_list_is_made_once_for_each_revision(
    client: AsyncClient, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests share one list until something that it shows changes; then it is new at once."""
    made = 0
    models = gateway.registry.catalogue.models

    def counted(**options: Any) -> Any:
        nonlocal made
        made += 1
        return models(**options)

    monkeypatch.setattr(gateway.registry.catalogue, "models", counted)
    before, *others = await asyncio.gather(*(ids(client) for _ in range(5)))
    assert (1, [before] * 4) == (made, others)
    compose(gateway, "mix", "cat(zorp, blim)")
    assert {"mix"} == set(await ids(client)) - set(before)
    gateway.registry.versions.set_alias("mix", "best", 1, "test")
    assert {"mix", "mix@best"} == set(await ids(client)) - set(before)
    gateway.registry.versions.set_alias("mix", "best", 1, "test")
    await ids(client)
    gateway.registry.versions.quarantine(Reference(name="blim", version=1), "bad", "test")
    assert {"blim", "blim@prod"} == set(before) - set(await ids(client))
    assert 4 == made


async def test_namespaces_have_lists_of_their_own(
    gateway: Gateway, make_client: MakeClient
) -> None:
    """A list that was made for one namespace is not shown to another."""
    compose(gateway, "acme/mix", "cat(zorp, blim)")
    async with make_client(gateway) as client:
        for namespace, sees in (("acme", True), ("other", False), ("acme", True)):
            _, key = gateway.registry.access.keys.create(
                f"{namespace}-{uuid4().hex[:8]}", role="read", namespace=namespace
            )
            client.headers["authorization"] = f"Bearer {key}"
            assert sees == ("acme/mix" in await ids(client))
