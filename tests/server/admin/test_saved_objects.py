"""Saving a `composition` object under a name: what no expression can say is kept."""

from typing import Any

import pytest
from httpx import AsyncClient

from registry.service import Registry
from server.gateway import Gateway
from tests.server.asgi import CHAT
from tests.server.test_api import compose

VERSIONS = "/registry/compositions/mix/-/versions"
BY_PATTERN = {
    "method": "cat",
    "adapters": [{"name": "zorp", "weight": 0.5, "weights": {"*.mlp.*": 0.25}}, {"name": "blim"}],
}
PLAIN = {"method": "cat", "adapters": [{"name": "zorp", "weight": 0.5}, {"name": "blim"}]}


async def answered_by(client: AsyncClient, **named: Any) -> str:
    """Return the digest of what answers a chat."""
    body = named | {"messages": [{"role": "user", "content": "zorp: banana"}]}
    answer = await client.post(CHAT, json=body)
    assert 200 == answer.status_code, answer.text
    return str(answer.json()["model"])


@pytest.mark.parametrize("asked", [BY_PATTERN, PLAIN | {"dtype": "bfloat16"}, PLAIN])
async def test_the_name_answers_as_the_object(client: AsyncClient, asked: dict[str, Any]) -> None:
    """A request with the name has the adapter of a request with the object, weight by weight."""
    saved = await client.post(VERSIONS, json={"composition": asked})
    assert 201 == saved.status_code, saved.text
    assert await answered_by(client, model="mix") == await answered_by(client, composition=asked)


async def test_its_text_is_an_expression_where_one_says_it(client: AsyncClient) -> None:
    """The text of a version is an expression if one says the same, and the object otherwise."""
    plain = (await client.post(VERSIONS, json={"composition": PLAIN})).json()
    assert "cat(0.5*zorp, blim)" == plain["expression"]
    other = (await client.post(VERSIONS, json={"composition": BY_PATTERN})).json()
    assert (2, "{") == (other["number"], other["expression"][0])
    told = (await client.get("/registry/explain", params={"model": "mix@2"})).json()
    assert told["expression"] is None
    assert {"*.mlp.*": 0.25} == told["composition"]["adapters"][0]["weights"]
    again = await client.post(VERSIONS, json={"composition": told["composition"]})
    assert 2 == again.json()["number"]


async def test_a_job_s_composition_is_explained(client: AsyncClient, gateway: Gateway) -> None:
    """The text of a job's composition is prose; it is explained all the same, without writings."""
    compose(gateway, "learned", "cat(zorp, blim)", written="recycle(zorp, blim) of job-1")
    told = await client.get("/registry/explain", params={"model": "learned"})
    assert (200, "merge", None) == (
        told.status_code, told.json()["kind"], told.json()["composition"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "either an expression or a composition"),
        ({"expression": "cat(zorp, blim)", "composition": PLAIN}, 400, "either an expression"),
        ({"composition": PLAIN | {"method": "liner"}}, 400, "did you mean linear"),
        ({"composition": PLAIN | {"adapters": [{"name": "zrop"}]}}, 404, "zorp"),
        ({"composition": PLAIN | {"note": "x" * 70_000}}, 400, "at most 65,536 characters"),
    ],
)
async def test_what_cannot_be_saved_is_told(
    client: AsyncClient, registry: Registry, body: dict[str, Any], status: int, words: str
) -> None:
    """Neither, both, a mistake in the object and a very long one are refused; nothing is saved."""
    refused = await client.post(VERSIONS, json=body)
    assert status == refused.status_code, refused.text
    assert words in refused.text
    assert [] == list(registry.catalogue.compositions().items)
