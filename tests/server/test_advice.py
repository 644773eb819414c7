"""Errors that advise an action: taking the advice works."""

import re

import pytest
from httpx import AsyncClient

from server.gateway import Gateway
from tests.server.asgi import CHAT
from tests.server.conftest import MakeClient, MakeGateway
from tests.server.test_api import ask, compose, told

MIX = "cat(zorp, blim)"


async def advice(client: AsyncClient, model: str, pattern: str) -> str:
    """Return the part of the error for `model` that `pattern` captures."""
    message = told(await ask(client, model))["message"]
    match = re.search(pattern, message)
    assert match is not None, message
    return match[1]


@pytest.mark.parametrize(
    ("model", "pattern"),
    [
        ("Lego (zorp, blim; rank=8)", "Did you mean `(.+)`"),
        ("Zorp@Prod", "Did you mean `(.+)`"),
        ("2*zorp \u2013 blim", "Did you mean `(.+)`"),
        ("auto(; filter=\u201crank<=64\u201d)", "Did you mean `(.+)`"),
        ("zrop", r"Near names: (\w+)"),
        ("auto(zorp)", r"Write (auto\(.+\))\."),
        ("auto", "as in `(.+)`"),
    ],
)
async def test_the_suggested_model_answers(client: AsyncClient, model: str, pattern: str) -> None:
    """The text that an error suggests in place of `model` is answered with 200."""
    response = await ask(client, await advice(client, model, pattern))
    assert response.status_code == 200, response.text


async def test_a_bare_method_answers_with_ingredients(client: AsyncClient) -> None:
    """The example for a bare method answers once its letters are names of adapters."""
    example = await advice(client, "lego", "as in `(.+)`")
    assert (await ask(client, example.replace("a, b", "zorp, blim"))).status_code == 200


async def test_a_composition_s_expression_is_an_ingredient_s_place(
    client: AsyncClient, gateway: Gateway
) -> None:
    """The expression of a composition, written out as the error advises, answers."""
    compose(gateway, "mix", MIX)
    assert "Write out its expression" in told(await ask(client, "cat(mix, tref)"))["message"]
    expression = (await client.get("/registry/compositions/mix")).json()["expression"]
    assert (await ask(client, expression.replace(")", ", tref)"))).status_code == 200


async def test_a_filter_without_status_answers(client: AsyncClient) -> None:
    """Removing status from the filter of a retrieval, as the error advises, answers."""
    model = 'auto(; filter="rank<=64 status=admitted")'
    assert "Remove status from the filter" in told(await ask(client, model))["message"]
    assert (await ask(client, model.replace(" status=admitted", ""))).status_code == 200


async def test_a_single_reference_gets_an_alias(client: AsyncClient) -> None:
    """Where a composition of one reference is refused, the advised alias names the same."""
    body = {"expression": "zorp@1"}
    refused = await client.post("/registry/compositions/mine/-/versions", json=body)
    assert "Give that version an alias" in refused.json()["detail"]
    moved = await client.put("/registry/adapters/zorp/-/aliases/mine", json={"version": 1})
    assert moved.status_code == 200
    assert (await ask(client, "zorp@mine")).status_code == 200


async def test_the_header_that_is_asked_for_lets_in(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """The header that a 401 shows, with a key in the place of KEY, is accepted."""
    async with make_client(make_gateway(api_keys=("sesame",))) as client:
        message = told(await client.post(CHAT, json={}))["message"]
        header = re.search("`(.+)`", message)
        assert header is not None, message
        name, _, value = header[1].replace("KEY", "sesame").partition(": ")
        assert (await client.get("/v1/models", headers={name: value})).status_code == 200
