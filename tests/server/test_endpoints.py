"""The engine's routes beside chats and completions: what reaches the engine, what is counted."""

import json
from typing import Any

import pytest
from httpx import AsyncClient, Response

from server.engine.fake import FakeEngine
from server.engine.protocol import is_missing_route
from server.gateway import Gateway
from tests.server.conftest import BASE, MakeClient, MakeGateway

RESPONSES = "/v1/responses"


async def respond(client: AsyncClient, **fields: Any) -> Response:
    """Send a request to /v1/responses."""
    return await client.post(RESPONSES, json={"model": "zorp", "input": "Hi"} | fields)


async def counted(gateway: Gateway) -> tuple[int, int, int]:
    """Return the requests and the tokens, in and out, that were counted."""
    await gateway.meter.flush()
    (row,) = gateway.registry.access.usage.page().items
    return row.requests, row.prompt_tokens, row.completion_tokens


async def test_a_response_is_answered_by_the_adapter(
    client: AsyncClient, engine: FakeEngine, gateway: Gateway
) -> None:
    """/v1/responses resolves, leases and loads as a chat does, with the server's salt and without
    anything that the engine would keep; its tokens count."""
    answer = await respond(client, store=True, cache_salt="mine", priority=3)
    sent = engine.bodies[-1]

    assert answer.json()["model"] == answer.headers["x-weft-artifact"] == sent["model"]
    assert sent["store"] is False
    assert sent["cache_salt"] not in ("mine", None)
    assert "stream_options" not in sent
    assert 0 == gateway.leases.total()
    assert (1, 5, 3) == await counted(gateway)


@pytest.mark.parametrize("breaks", [False, True])
async def test_a_streamed_response_passes_whole_and_is_counted(
    client: AsyncClient, engine: FakeEngine, gateway: Gateway, breaks: bool
) -> None:
    """Every event of a streamed response passes, with its usage; one that breaks is counted by its
    parts and ends with an error event."""
    engine.breaks = breaks
    answer = await respond(client, stream=True)
    events = [json.loads(e.removeprefix("data: ")) for e in answer.text.strip().split("\n\n")]
    if breaks:
        assert "error" in events[-1]
        assert 3 == (await counted(gateway))[2]
    else:
        assert 3 == events[-1]["response"]["usage"]["output_tokens"]
        assert (1, 5, 3) == await counted(gateway)


@pytest.mark.parametrize(
    ("field", "value"),
    [("previous_response_id", "resp_1"), ("background", True), ("conversation", {"id": "x"})],
)
async def test_nothing_that_the_engine_keeps_is_asked_for(
    client: AsyncClient, engine: FakeEngine, field: str, value: object
) -> None:
    """What another caller could have stored, or could fetch, is refused before the engine."""
    answer = await respond(client, **{field: value})
    assert (400, field) == (answer.status_code, answer.json()["error"]["param"])
    assert [] == engine.bodies


async def test_a_response_of_auto_searches_by_its_input(
    client: AsyncClient, engine: FakeEngine
) -> None:
    """Instructions and input are the text of a retrieval, as a chat's messages are."""
    parts = [{"role": "user", "content": [{"type": "input_text", "text": "zorp the words"}]}]
    for text in ("zorp the words", parts):
        answer = await respond(client, model="auto(; k=1)", input=text, instructions="Be brief.")
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-weft-ingredients"]


async def test_tokens_are_those_of_the_base(
    client: AsyncClient, engine: FakeEngine, gateway: Gateway
) -> None:
    """A tokenizer belongs to the base, so that nothing is merged or loaded; an unknown name is
    unknown here, too."""
    answer = await client.post("/tokenize", json={"model": "cat(zorp, blim)", "prompt": "abc"})
    assert 3 == answer.json()["count"]
    assert (BASE, set()) == (engine.bodies[-1]["model"], engine.loaded)
    unknown = await client.post("/detokenize", json={"model": "no", "tokens": [1]})
    assert 404 == unknown.status_code
    assert (2, 0, 0) == await counted(gateway)


async def test_a_route_that_the_engine_lacks_is_said_so(client: AsyncClient) -> None:
    """Embeddings of an engine without them are 501 with the route's name, not an unknown model."""
    answer = await client.post("/v1/embeddings", json={"model": "zorp", "input": "Hi"})
    error = answer.json()["error"]
    assert (501, "not_served") == (answer.status_code, error["code"])
    assert "/v1/embeddings" in error["message"]


def test_an_unknown_path_differs_from_an_unknown_model() -> None:
    """FastAPI's and vLLM's own answers for a path are told from vLLM's for a model."""
    body: Any
    for body in ({"detail": "Not Found"}, {"error": {"message": "Not Found"}}, [], "x"):
        assert is_missing_route(json.dumps(body).encode())
    assert is_missing_route(b"<html>")
    assert not is_missing_route(b'{"error": {"message": "The model `x` does not exist."}}')


async def test_many_inputs_are_many_answers(
    make_gateway: MakeGateway, make_client: MakeClient, engine: FakeEngine
) -> None:
    """WEFT_MAX_ANSWERS bounds the texts that one request embeds."""
    async with make_client(make_gateway(max_answers=2)) as client:
        body = {"model": "zorp", "input": ["a", "b", "c"]}
        assert 400 == (await client.post("/v1/embeddings", json=body)).status_code
    assert [] == engine.bodies
