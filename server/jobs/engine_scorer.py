"""Score a candidate as served: the engine answers the validation examples.

Requests go one at a time: for log-probabilities because vLLM dies of several in one batch, and so
that base and adapters never share one; for greedy answers because the size of a batch changes the
rounding, and answers should repeat to the last token.
Not covered: the figures in a report (`report`).
"""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from merge.adaptive.scoring.examples import IGNORED, Example
from merge.adaptive.scoring.losses import Losses, answer_tokens
from merge.adaptive.scoring.scored import Scored
from merge.adaptive.scoring.scorer import compare_answers
from server.engine.protocol import Engine, EngineFailed, EngineUnavailable

_PATH = "/v1/completions"


class ScoringFailed(Exception):
    """The engine's answers do not give a score; the message is the engine's."""


async def score(
    engine: Engine,
    model: str,
    examples: Sequence[Example],
    *,
    pattern: str | None,
    longest_answer: int,
    salt: str,
) -> Scored:
    """Return the scores of `model`, which the engine has loaded, on examples.

    The examples are the job owner's: `salt` keeps them from others in the engine's prefix cache.

    Raises:
        ScoringFailed: it refused a request, for example a prompt that is too long.
        EngineUnavailable: it is down, or has lost the model; the same call may succeed later.
    """
    common = {"model": model, "temperature": 0, "cache_salt": salt}
    nll = [await _nll(engine, common, example) for example in examples]
    answers = [await _answer(engine, common, example, longest_answer) for example in examples]
    losses = Losses(tuple(nll), tuple(map(answer_tokens, examples)))
    # In a thread: RE2 takes linear time and releases the interpreter's lock, but texts may be long.
    return await asyncio.to_thread(compare_answers, losses, answers, examples, pattern)


async def _nll(engine: Engine, common: Mapping[str, Any], example: Example) -> float:
    """Return the summed negative log-likelihood of an example's answer tokens, nats."""
    tokens, labels = example.tokens, example.labels
    request = {**common, "prompt": tokens, "max_tokens": 1, "prompt_logprobs": 0}
    logprobs: Any = (await _ask(engine, request)).get("prompt_logprobs")
    # The first token has no log-probability: nothing precedes it.
    counted = [at for at in range(1, len(tokens)) if labels[at] != IGNORED]
    try:
        return -math.fsum(logprobs[at][str(tokens[at])]["logprob"] for at in counted)
    except (KeyError, IndexError, TypeError) as error:
        raise ScoringFailed(f"the engine left log-probabilities out: {error!r}") from error


async def _answer(engine: Engine, common: Mapping[str, Any], example: Example, longest: int) -> str:
    request = {**common, "prompt": example.prompt, "max_tokens": longest}
    return str((await _ask(engine, request))["text"])


async def _ask(engine: Engine, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        data, model = json.dumps(request).encode(), str(request["model"])
        async with engine.send(_PATH, data, model=model) as response:
            body = await response.read()
    except EngineFailed as error:
        raise EngineUnavailable(str(error)) from error
    if response.status == 404 or response.status >= 500:
        raise EngineUnavailable(f"the engine answered {response.status}: {body[:200]!r}")
    if response.status != 200:
        raise ScoringFailed(f"the engine answered {response.status}: {body[:300]!r}")
    choice: dict[str, Any] = json.loads(body)["choices"][0]
    return choice
