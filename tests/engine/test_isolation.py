"""Requests in one batch are answered by their own models, with more adapters than slots."""

import asyncio

from tests.engine.gateway import ADAPTERS, BASE, Weft
from tests.engine.oracle import Oracle
from tests.engine.test_parity import prompts_of


async def test_base_and_adapters_in_one_batch(weft: Weft, oracle: Oracle) -> None:
    """The base and eight adapters answer as they do alone, all at once on three slots."""
    prompts = {name: prompts_of(name, 12) for name in ADAPTERS}
    shared = [prompt for some in prompts.values() for prompt in some[:2]]
    expected = {name: oracle.adapter_tokens(name, some) for name, some in prompts.items()}
    expected[BASE] = oracle.base_tokens(shared)

    asked = {**prompts, BASE: shared}
    answers = await asyncio.gather(*(weft.tokens(m, some, 20) for m, some in asked.items()))

    assert expected == dict(zip(asked, answers, strict=True))


async def test_prompt_logprobs_at_once(weft: Weft) -> None:
    """Prompt log-probabilities of the base and adapters, requested concurrently, equal those
    requested one at a time, and the engine stays alive."""
    models = [BASE, *ADAPTERS[:3]]

    async with weft.http() as http:

        async def logprobs(model: str, prompt: str) -> list[float]:
            body = {"model": model, "prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 0}
            response = await http.post("/v1/completions", json=body)
            assert response.status_code == 200, response.text
            values: list[float] = response.json()["choices"][0]["logprobs"]["token_logprobs"][1:-1]
            return values

        asked = [(m, f"{'abcdefgh'[i] * (5 + 3 * i)} zorp") for i in range(4) for m in models]
        alone = [await logprobs(*one) for one in asked]
        together = await asyncio.gather(*(logprobs(*one) for one in asked))

    for expected, found in zip(alone, together, strict=True):
        assert len(expected) == len(found)
        assert max(abs(a - b) for a, b in zip(expected, found, strict=True)) < 1e-3
