"""What a candidate is worth as it is served: the validation examples, asked of the engine.

Log-probabilities first, one request at a time (vLLM dies of several, and base and adapters share no
batch), then greedy answers, one at a time too, so that they can be repeated to the last token.
Not covered: what is made of the figures (`report`).
"""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from merge.adaptive.scoring.examples import IGNORED, Example
from merge.adaptive.scoring.losses import Losses, answer_tokens
from merge.adaptive.scoring.scorer import Scored, compare_answers
from server.engine.protocol import Engine, EngineUnavailable
from server.jobs.patterns import Pairs, PatternSlow, agreements

_PATH = "/v1/completions"


class ScoringFailed(Exception):
    """The engine did not answer what a score needs; the sentence is its own."""


async def score(
    engine: Engine,
    model: str,
    examples: Sequence[Example],
    *,
    pattern: str | None,
    longest_answer: int,
) -> Scored:
    """Return how well `model`, which the engine has loaded, does on examples.

    Raises:
        ScoringFailed: it refused a request, a prompt that is too long, say; or the pattern is slow.
        EngineUnavailable: it is gone, or has lost the model; the same may succeed later.
    """
    nll = [await _nll(engine, model, each) for each in examples]
    said = [await _answer(engine, model, each, longest_answer) for each in examples]
    losses = Losses(tuple(nll), tuple(map(answer_tokens, examples)))
    scored = compare_answers(losses, said, examples, None)
    if pattern is None:
        return scored
    pairs = [(text, each.answer) for text, each in zip(said, examples, strict=True)]
    return scored._replace(pattern_match=await _pattern_match(pattern, pairs))


async def _pattern_match(pattern: str, pairs: Pairs) -> tuple[bool, ...]:
    try:
        return await asyncio.to_thread(agreements, pattern, pairs)
    except PatternSlow as error:
        raise ScoringFailed(str(error)) from error


async def _nll(engine: Engine, model: str, example: Example) -> float:
    """Return the summed negative log-likelihood of an example's answer tokens, nats."""
    tokens, labels = example.tokens, example.labels
    asked = {"model": model, "prompt": tokens, "max_tokens": 1, "temperature": 0,
             "prompt_logprobs": 0}  # fmt: skip
    found: Any = (await _ask(engine, asked)).get("prompt_logprobs")
    counted = [at for at in range(1, len(tokens)) if labels[at] != IGNORED]
    try:
        return -math.fsum(found[at][str(tokens[at])]["logprob"] for at in counted)
    except (KeyError, IndexError, TypeError) as error:
        raise ScoringFailed(f"the engine left log-probabilities out: {error!r}") from error


async def _answer(engine: Engine, model: str, example: Example, longest: int) -> str:
    asked = {"model": model, "prompt": example.prompt, "max_tokens": longest, "temperature": 0}
    return str((await _ask(engine, asked))["text"])


async def _ask(engine: Engine, request: Mapping[str, Any]) -> dict[str, Any]:
    async with engine.send(_PATH, json.dumps(request).encode()) as response:
        body = await response.read()
    if response.status == 404 or response.status >= 500:
        raise EngineUnavailable(f"the engine answered {response.status}: {body[:200]!r}")
    if response.status != 200:
        raise ScoringFailed(f"the engine answered {response.status}: {body[:300]!r}")
    choice: dict[str, Any] = json.loads(body)["choices"][0]
    return choice
