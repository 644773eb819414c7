"""LoRAX's API: its bodies reach the same merges, and its clients understand the answers."""

import json
import os
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient, Response

from merge.recipe import Recipe
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from server.lorax.answers import Events, whole
from server.lorax.requests import Generate, Parameters
from server.sse import frame
from tests.server.asgi import COMPLETIONS
from tests.server.conftest import BASE

TIES = {"ids": ["zorp", "blim@prod"], "weights": [0.7, 0.3], "merge_strategy": "ties",
        "density": 0.5, "majority_sign_method": "frequency"}  # fmt: skip
CLIENT = """
import sys
from lorax import Client, MergedAdapters
from lorax.errors import ValidationError, NotFoundError

client = Client(sys.argv[1], headers={"Authorization": "Bearer secret"})
merged = MergedAdapters(ids=["zorp", "blim"], weights=[0.5, 0.5], density=0.5)
first = client.generate("zorp: abc", merged_adapters=merged, max_new_tokens=8)
assert first.generated_text.startswith("answered by"), first
assert first.details.finish_reason in ("eos_token", "length"), first
single = client.generate("zorp: abc", adapter_id="zorp")
assert single.generated_text != first.generated_text
events = list(client.generate_stream("zorp: abc", merged_adapters=merged))
assert "".join(event.token.text for event in events) == events[-1].generated_text
assert events[-1].details.generated_tokens > 0
try:
    client.generate("zorp: abc", adapter_id="zrop")
    raise SystemExit("an unknown adapter answered")
except NotFoundError as error:
    assert "zrop" in str(error), error
try:
    client.generate("zorp: abc", adapter_id="linear(zorp; rank=0)")
    raise SystemExit("a bad option passed")
except ValidationError as error:
    assert "rank" in str(error), error
print("fine")
"""


async def generate(client: AsyncClient, path: str = "/generate", **parameters: Any) -> Response:
    """Send one request."""
    return await client.post(path, json={"inputs": "zorp: abc", "parameters": parameters})


async def test_an_adapter_answers_by_its_id(client: AsyncClient, engine: FakeEngine) -> None:
    """`adapter_id` is what `model` may be; without one, or with LoRAX's name for it, the base."""
    digest = (await generate(client, adapter_id="zorp@prod")).headers["x-weft-artifact"]
    assert digest == engine.bodies[-1]["model"]
    for parameters in ({}, {"adapter_id": ""}, {"adapter_id": "__base_model__"}):
        answer = await generate(client, **parameters)
        assert {"generated_text": f"answered by {BASE}"} == answer.json()


async def test_a_merge_is_the_composition_that_says_the_same(
    client: AsyncClient, gateway: Gateway
) -> None:
    """Strategy, weights, density and signs are those of the method, with its exact maths."""
    answer = await generate(client, merged_adapters=TIES)
    assert 200 == answer.status_code, answer.text
    text = "ties(0.7*zorp, 0.3*blim@prod; density=0.5, majority=frequency)"
    same = await client.post(COMPLETIONS, json={"model": text, "prompt": "zorp: abc"})
    assert same.json()["model"] == answer.headers["x-weft-artifact"]
    linear = await generate(client, merged_adapters={"ids": ["zorp", "blim"], "density": 0.0})
    (record,) = gateway.registry.catalogue.artifact(linear.headers["x-weft-artifact"]).recipes
    recipe = Recipe.parse(record.text)
    assert ("linear", [1.0, 1.0]) == (recipe.method, [w for _, w in recipe.lineage])


async def test_parameters_reach_the_engine(client: AsyncClient, engine: FakeEngine) -> None:
    """Parameters become those of vLLM's completions; without sampling the answer is greedy."""
    await generate(
        client, max_new_tokens=5, stop=["."], seed=3, top_k=4, ignore_eos_token=True, truncate=9,
        response_format={"type": "json_object", "schema": {"type": "object"}},
    )  # fmt: skip
    body = engine.bodies[-1]
    expected = {
        "prompt": "zorp: abc", "max_tokens": 5, "stop": ["."], "seed": 3, "top_k": 4,
        "ignore_eos": True, "truncate_prompt_tokens": 9, "temperature": 1.0,
    }  # fmt: skip
    assert expected == {name: body[name] for name in expected}
    assert {"type": "object"} == body["response_format"]["json_schema"]["schema"]  # type: ignore[index]
    await generate(client)
    assert 0.0 == engine.bodies[-1]["temperature"]
    assert "max_tokens" not in engine.bodies[-1]


async def test_the_compatible_route_answers_with_a_list(client: AsyncClient) -> None:
    """`/` answers with a list, as LoRAX's own does, and both give details when asked."""
    (answer,) = (await generate(client, "/", details=True, return_full_text=True)).json()
    assert f"zorp: abcanswered by {BASE}" == answer["generated_text"]
    details = answer["details"]
    assert ("eos_token", 5, 3, []) == (
        details["finish_reason"], details["prompt_tokens"], details["generated_tokens"],
        details["prefill"],
    )  # fmt: skip


async def test_a_stream_ends_with_the_whole_text(client: AsyncClient) -> None:
    """Each event has one token, and the last one the whole text and the details."""
    for path, more in (("/generate_stream", {}), ("/", {"stream": True})):
        body = {"inputs": "zorp: abc", "parameters": {"adapter_id": "zorp"}, **more}
        answer = await client.post(path, json=body)
        events = [json.loads(line[5:]) for line in answer.text.splitlines() if line]
        *tokens, last = events
        assert all(event["generated_text"] is None for event in tokens)
        assert "".join(event["token"]["text"] for event in events) == last["generated_text"]
        assert 3 == last["details"]["generated_tokens"]


def test_log_probabilities_and_ids_are_the_engine_s() -> None:
    """Tokens have the ids, texts and log-probabilities that vLLM gives; a stop has its reason."""
    request = Generate("p", Parameters(details=True, seed=7))
    choice = {
        "text": "ab", "finish_reason": "stop", "stop_reason": "b", "token_ids": [4, 5],
        "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-0.5, None]},
    }  # fmt: skip
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    details = whole(request, {"choices": [choice], "usage": usage})["details"]
    assert [(4, "a", -0.5), (5, "b", 0.0)] == [
        (t["id"], t["text"], t["logprob"]) for t in details["tokens"]
    ]
    assert ("stop_sequence", 7) == (details["finish_reason"], details["seed"])
    events = Events(request)
    stream = frame(json.dumps({"choices": [choice]}))
    half = len(stream) // 2
    first = events.feed(stream[:half]) + events.feed(stream[half:])
    assert b'"id": 4' in first
    assert b'"id": 5' not in first
    last = events.feed(frame(json.dumps({"choices": [], "usage": usage})) + frame("[DONE]"))
    assert b'"generated_text": "ab"' in last


async def test_a_broken_stream_ends_with_an_error(client: AsyncClient, engine: FakeEngine) -> None:
    """An engine that fails in a stream is one event with `error`, which the client raises."""
    engine.breaks = True
    answer = await generate(client, "/generate_stream")
    last = [json.loads(line[5:]) for line in answer.text.splitlines() if line][-1]
    assert ("generation", "engine_unavailable") == (last["error_type"], last["code"])


async def test_what_cannot_be_done_is_told(client: AsyncClient) -> None:
    """Mistakes and what weft lacks are errors in LoRAX's form, with the place."""
    cases: list[tuple[dict[str, Any], int, str, str]] = [
        ({"typical_p": 0.5}, 400, "validation", "typical_p is not supported"),
        ({"watermark": True}, 400, "validation", "watermark"),
        ({"best_of": 2}, 400, "validation", "best_of"),
        ({"adapter_source": "hub", "adapter_id": "a/b"}, 400, "validation", "Import the adapter"),
        ({"adapter_id": "zorp", "merged_adapters": TIES}, 400, "validation", "one of them"),
        ({"merged_adapters": TIES | {"weights": [1.0]}}, 400, "validation", "2 ids and 1 weights"),
        ({"merged_adapters": TIES | {"density": 0.0}}, 400, "validation", "density takes"),
        ({"merged_adapters": TIES | {"merge_strategy": "no"}}, 400, "validation", "merge_strategy"),
        ({"merged_adapters": {"ids": []}}, 400, "validation", "at least one adapter"),
        ({"colour": "red"}, 400, "validation", "colour"),
        ({"temperature": "hot"}, 400, "validation", "$.parameters.temperature"),
        ({"adapter_id": "zrop"}, 404, "", "zrop"),
    ]
    for parameters, status, kind, words in cases:
        answer = await generate(client, **parameters)
        body = answer.json()
        assert (status, kind) == (answer.status_code, body.get("error_type", "")), body
        assert words in body["error"]
    odd = await client.post("/generate", content=b"x", headers={"content-type": "text/plain"})
    assert 415 == odd.status_code


@pytest.mark.slow
def test_lorax_client_works(url: str, tmp_path: Path) -> None:
    """The real lorax-client, in an environment of its own, merges, streams and raises errors."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = ["-m", "pip", "install", "-q", "lorax-client==0.6.3"]
    subprocess.run([python, *install], check=True, timeout=300)
    told = subprocess.run(
        [python, "-c", CLIENT, url], capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"]}, cwd=tmp_path,
    )  # fmt: skip
    assert ("fine\n", 0) == (told.stdout, told.returncode), told.stderr
