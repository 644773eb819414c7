"""Two real vLLM on Ray, behind one gateway: their answers are PEFT's, also while one is lost."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from server.cli.demo import import_demo_adapters
from tests.engine.gateway import END
from tests.engine.oracle import Oracle
from tests.engine.test_parity import prompts_of
from tests.server.cluster.running import OnRay, cluster_settings, engines_of, on_ray

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
CAT = "cat(zorp@prod, blim@prod)"
PROMPTS = 10


@pytest.fixture(scope="module")
def weft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnRay]:
    """One gateway and two engines on one home: they load from the gateway's folder."""
    folder = tmp_path_factory.mktemp("ray")
    settings = cluster_settings(folder / "home", job_devices=())
    import_demo_adapters(settings)
    with on_ray(folder, settings, "--engines", "2", up_seconds=1200) as running:
        yield running


async def complete(http: httpx.AsyncClient, model: str, prompt: str) -> httpx.Response:
    """Send a greedy chat whose answer has its tokens."""
    body = {
        "model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
        "max_tokens": 16, "return_token_ids": True,
    }  # fmt: skip
    return await http.post("/v1/chat/completions", json=body)


def tokens_of(answer: httpx.Response) -> list[int]:
    """Return the tokens of a chat's answer, without the end token."""
    assert answer.status_code == 200, answer.text
    choice: Any = answer.json()["choices"][0]
    return [token for token in choice["token_ids"] if token != END]


async def all_tokens(http: httpx.AsyncClient, model: str, prompts: list[str]) -> list[list[int]]:
    """Return the tokens of the answers to all prompts, which are sent at once."""
    answers = await asyncio.gather(*(complete(http, model, prompt) for prompt in prompts))
    return [tokens_of(answer) for answer in answers]


async def test_answers_are_peft_s(weft: OnRay) -> None:
    """Every one of four adapters and a composition answer as PEFT does, with two engines up."""
    oracle = Oracle()
    async with weft.http() as http:
        for name in ("zorp", "blim", "tref", "plov"):
            prompts = prompts_of(name, PROMPTS)
            answers = await all_tokens(http, f"{name}@prod", prompts)
            assert oracle.adapter_tokens(name, prompts) == answers
        prompts = prompts_of("zorp", PROMPTS) + prompts_of("blim", PROMPTS)
        expected = oracle.cat_tokens(["zorp", "blim"], [1.0, 1.0], prompts)
        assert expected == await all_tokens(http, CAT, prompts)
        assert "weft_engines 2.0" in (await http.get("/metrics")).text


async def test_an_answer_streams(weft: OnRay) -> None:
    """A stream comes through HAProxy and the relay in parts, and ends as OpenAI's does."""
    (prompt,) = prompts_of("zorp", 1)
    messages = [{"role": "user", "content": prompt}]
    body = {"model": "zorp@prod", "messages": messages, "stream": True, "max_tokens": 16}
    path = "/v1/chat/completions"
    async with weft.http() as http, http.stream("POST", path, json=body) as answer:
        lines = [line async for line in answer.aiter_lines() if line]
    assert len(lines) > 2
    assert lines[-1] == "data: [DONE]"


async def test_no_answer_is_wrong_while_an_engine_is_lost(weft: OnRay) -> None:
    """After an engine's process is killed every chat is answered as before, by the other one."""
    prompts = prompts_of("zorp", PROMPTS)
    async with weft.http() as http:
        before = await all_tokens(http, CAT, prompts)
        os.kill(engines_of(weft)[0].pid, signal.SIGKILL)
        answers = [await complete(http, CAT, prompt) for prompt in prompts]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert len(refused) <= 1, [answer.text for answer in refused]
        right = [
            tokens_of(answer) == expected
            for answer, expected in zip(answers, before, strict=True)
            if answer.status_code == 200
        ]
        assert all(right)
        assert before == await all_tokens(http, CAT, prompts)
