"""Compositions under load: merged once and loaded once, while other requests are answered."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.engine.gateway import ADAPTERS, BASE, Weft
from tests.engine.test_parity import prompts_of
from tests.reading import read_adapter
from tests.serving import serving


async def test_one_merge_for_a_hundred_requests(weft: Weft) -> None:
    """A hundred concurrent requests for one new composition cause one merge, and one load into each
    engine by each gateway."""
    expression = "lego(zorp, blim, frob; rank=12, seed=41)"
    merges = await weft.metric("weft_merges_total", '{method="lego",outcome="done"}')
    loads = await weft.metric("weft_load_seconds_count", '{outcome="done"}')

    answers = await weft.tokens(expression, ["zorp: abc"] * 100, at_once=100)

    assert answers == [answers[0]] * 100
    assert merges + 1 == await weft.metric("weft_merges_total", '{method="lego",outcome="done"}')
    loads = await weft.metric("weft_load_seconds_count", '{outcome="done"}') - loads
    assert 1 <= loads <= weft.pairs


async def test_streams_flow_while_a_merge_runs(weft: Weft) -> None:
    """While a merge runs, the streams of other requests start, continue and end."""
    body = {
        "model": BASE, "prompt": "abc", "max_tokens": 40, "ignore_eos": True, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip

    new = "lego(zorp, blim; rank=12, seed=43)"
    async with weft.http() as http:
        with stopped(weft.workers()):  # so that the merge lasts as long as the streams
            merging = asyncio.create_task(weft.complete(http, new, "zorp: abc"))
            while await weft.metric("weft_builds_running") != 1:
                await asyncio.sleep(0.05)
            for _ in range(2):
                async with http.stream("POST", "/v1/completions", json=body) as response:
                    lines = [line async for line in response.aiter_lines() if line]
                assert lines[-1] == "data: [DONE]"
                # The engine puts several tokens into one event when its own loop is late, so the
                # tokens are counted and not the events.
                usage = json.loads(lines[-2].removeprefix("data: "))["usage"]
                assert usage["completion_tokens"] == 40
            assert not merging.done()
        await merging


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Stop processes; on leaving they continue."""
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_alias_moves_at_once(weft: Weft) -> None:
    """Moving an alias changes the next request; the old version still answers under its digest."""
    registry = weft.registry
    name = "moving"
    first = registry.adapters.register(
        weft.settings.blobs / read_adapter(registry, "zorp").versions[0].digest,
        name=name,
        alias="prod",
    ).version
    second = registry.adapters.register(
        weft.settings.blobs / read_adapter(registry, "blim").versions[0].digest, name=name
    ).version
    async with weft.http() as http:
        before = await weft.complete(http, f"{name}@prod", "zorp: abc")
        registry.versions.set_alias(name, "prod", second.number, "test")
        after = await weft.complete(http, f"{name}@prod", "zorp: abc")
        old = await weft.complete(http, first.digest, "zorp: abc")

    assert (first.digest, second.digest) == (before["model"], after["model"])
    assert before["choices"][0]["message"] == old["choices"][0]["message"]
    assert first.digest == old["model"]


async def test_named_composition(weft: Weft) -> None:
    """A composition answers under its name, and its artifact under the digest in the answer."""
    expression = "cat(zorp, blim)"
    recipe = _recipe(weft, expression)
    weft.registry.compositions.add(
        "mixes/both", expression=expression, recipe_text=recipe.canonical(),
        recipe_digest=recipe.digest(), base=recipe.base, ingredients=recipe.lineage,
        actor="test",
    )  # fmt: skip

    async with weft.http() as http:
        named = await weft.complete(http, "mixes/both", "zorp: abc")
        written = await weft.complete(http, expression, "zorp: abc")
        pinned = await weft.complete(http, named["model"], "zorp: abc")

    assert named["model"] == written["model"] == pinned["model"]
    assert named["choices"][0]["message"]["content"] == "CBA"


async def test_streaming_chat(weft: Weft) -> None:
    """A streamed chat answer has the same text, names the artifact and ends with [DONE]."""
    async with weft.http() as http:
        whole = await weft.complete(http, "cat(zorp, blim)", "blim: abc")
        body = {
            "model": "cat(zorp, blim)", "messages": [{"role": "user", "content": "blim: abc"}],
            "temperature": 0, "max_tokens": 16, "stream": True,
        }  # fmt: skip
        text = (await http.post("/v1/chat/completions", json=body)).text

    lines = [line for line in text.splitlines() if line]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    content = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert lines[-1] == "data: [DONE]"
    assert {whole["model"]} == {chunk["model"] for chunk in chunks}
    assert whole["choices"][0]["message"]["content"] == content == "c-b-a"


async def test_openai_client_lists_models(weft: Weft) -> None:
    """The OpenAI client's model list has the base, each adapter and each alias."""
    async with weft.openai() as client:
        listed = {model.id async for model in client.models.list()}

    assert {BASE, *ADAPTERS, *(f"{name}@prod" for name in ADAPTERS)} <= listed


async def test_completions_route(weft: Weft) -> None:
    """`/v1/completions` answers requests for a composition."""
    async with weft.openai() as client:
        answer = await client.completions.create(
            model="cat(zorp)", prompt="<|user|>zorp: abc<|assistant|>", temperature=0, max_tokens=8
        )

    assert answer.choices[0].text == "CBA"


def _recipe(weft: Weft, expression: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    from server.compose.expression import Expression, parse_model
    from server.compose.resolve import Resolver

    parsed = parse_model(expression)
    assert isinstance(parsed, Expression)
    return Resolver(weft.registry, serving(weft.settings)).plan(parsed)


async def test_sugar_is_linear(weft: Weft) -> None:
    """A weighted sum and the `linear` call that it stands for give one recipe and one artifact."""
    prompts = prompts_of("zorp", 1)
    async with weft.http() as http:
        sugar = await weft.complete(http, "0.5*zorp + 0.5*blim", prompts[0])
        written = await weft.complete(http, "linear(0.5*zorp, 0.5*blim)", prompts[0])

    assert sugar["model"] == written["model"]
