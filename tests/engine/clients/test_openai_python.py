"""openai-python: what it can ask of weft, on the session's engine."""

import asyncio
import json
import time
from typing import Any

import httpx
import pytest
from openai import APIStatusError, DefaultHttpxClient, NotFoundError, OpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from tests.engine.gateway import BASE, Weft

ASK: Any = [{"role": "user", "content": "copy sun moon"}]
MERGE = "cat(zorp, blim)"
# Every value is of a fixed length, so that the smallest model ends it.
SCHEMA = {
    "type": "object", "properties": {"zorp": {"type": "boolean"}}, "required": ["zorp"],
    "additionalProperties": False,
}  # fmt: skip


def sync_client(weft: Weft) -> OpenAI:
    """Return a client without retries."""
    http = DefaultHttpxClient(trust_env=False, timeout=120)
    return OpenAI(base_url=f"{weft.url}/v1", api_key="unused", http_client=http, max_retries=0)


def test_the_synchronous_client_lists_chats_and_completes(weft: Weft) -> None:
    """Models, a chat and a completion of a merge work without asyncio, and the error of an unknown
    model is the client's own class."""
    client = sync_client(weft)
    chat = client.chat.completions.create(model=MERGE, messages=ASK, max_tokens=4)
    completion = client.completions.create(model=MERGE, prompt="copy sun", max_tokens=4)

    assert BASE in [model.id for model in client.models.list()]
    assert chat.model == completion.model
    assert chat.usage is not None
    assert completion.usage is not None
    assert (1, True) == (len(completion.choices), chat.usage.completion_tokens <= 4)
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model="nothing", messages=ASK)


async def test_a_stream_ends_with_the_usage_that_was_asked_for(weft: Weft) -> None:
    """The pieces of a stream are the whole answer, and the last one has the tokens of a whole."""
    client = weft.openai()
    whole = await client.chat.completions.create(
        model="zorp", messages=ASK, temperature=0, max_tokens=16
    )
    stream = await client.chat.completions.create(
        model="zorp", messages=ASK, temperature=0, max_tokens=16, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    parts = [part async for part in stream]
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

    assert whole.choices[0].message.content == text
    assert whole.usage is not None
    assert parts[-1].usage is not None
    assert whole.usage.completion_tokens == parts[-1].usage.completion_tokens


async def test_several_answers_and_their_log_probabilities(weft: Weft) -> None:
    """`n` gives as many answers, and `logprobs` the likeliest tokens of each place."""
    answer = await weft.openai().chat.completions.create(
        model="zorp", messages=ASK, n=3, temperature=1, max_tokens=3, logprobs=True, top_logprobs=2
    )
    assert 3 == len(answer.choices)
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert all(2 == len(token.top_logprobs) for token in choice.logprobs.content)


async def test_structured_output_and_a_named_tool(weft: Weft) -> None:
    """An answer follows a JSON schema, and so do the arguments of a tool that the request names."""
    client = weft.openai()
    schema: Any = {"type": "json_schema", "json_schema": {"name": "z", "schema": SCHEMA}}
    shaped = await client.chat.completions.create(
        model=MERGE, messages=ASK, response_format=schema, max_tokens=60, temperature=0
    )
    assert {"zorp"} == set(json.loads(shaped.choices[0].message.content or ""))
    tool: Any = {"type": "function", "function": {"name": "mark", "parameters": SCHEMA}}
    called = await client.chat.completions.create(
        model=MERGE, messages=ASK, tools=[tool], max_tokens=60, temperature=0,
        tool_choice={"type": "function", "function": {"name": "mark"}},
    )  # fmt: skip
    calls = called.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert ("mark", {"zorp"}) == (call.function.name, set(json.loads(call.function.arguments)))


async def test_responses_are_answered_by_the_same_adapter(weft: Weft) -> None:
    """/v1/responses answers as a chat does, whole and streamed; what would be kept is refused."""
    client = weft.openai()
    chat = await client.chat.completions.create(
        model=MERGE, messages=ASK, temperature=0, max_tokens=16
    )
    asked: Any = {
        "model": MERGE, "input": "copy sun moon", "temperature": 0, "max_output_tokens": 16,
    }  # fmt: skip
    whole = await client.responses.create(**asked)
    events = [event async for event in await client.responses.create(**asked, stream=True)]

    assert (chat.model, chat.choices[0].message.content) == (whole.model, whole.output_text)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert whole.output_text == "".join(deltas)
    with pytest.raises(APIStatusError, match="previous_response_id"):
        await client.responses.create(**asked, previous_response_id=whole.id)


async def test_tokens_and_embeddings(weft: Weft) -> None:
    """Tokens are the engine's, and there and back gives the text; an engine that generates text has
    no embeddings, which is said as such."""
    async with weft.http() as http:
        asked = {"model": MERGE, "prompt": "copy sun"}
        tokens = (await http.post("/tokenize", json=asked)).json()["tokens"]
        back = await http.post("/detokenize", json={"model": BASE, "tokens": tokens})
    assert "copy sun" == back.json()["prompt"]
    with pytest.raises(APIStatusError) as refused:
        await weft.openai().embeddings.create(model="zorp", input="sun")
    assert 501 == refused.value.status_code


async def test_a_client_that_leaves_ends_the_engine_s_request_within_a_second(weft: Weft) -> None:
    """After a disconnect in the middle of a stream the engine runs nothing for it."""
    client = weft.openai()
    stream = await client.chat.completions.create(
        model="zorp", messages=ASK, stream=True, max_tokens=450, extra_body={"ignore_eos": True}
    )
    await anext(aiter(stream))
    digest = weft.registry.catalogue.adapter("zorp").digest
    assert digest in await running(weft)
    await stream.close()
    await client.close()
    left = time.monotonic()
    while digest in await running(weft):
        await asyncio.sleep(0.02)
    assert time.monotonic() - left < 1


async def running(weft: Weft) -> dict[str, int]:
    """Return the engine's running requests by digest."""
    engine = weft.engine_endpoint()
    async with httpx.AsyncClient(trust_env=False, headers=dict(engine.headers)) as http:
        counts: dict[str, int] = (await http.get(f"{engine.url}/weft/adapters")).json()["running"]
        return counts
