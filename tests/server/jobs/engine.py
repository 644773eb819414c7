"""A fake engine for scores, which gives every token the same probability."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.engine.fake import FakeEngine, FakeResponse

LOGPROB = -0.5
ANSWER = "Yes."


class ScoringEngine(FakeEngine):
    """Returns log-probabilities of prompts, or omits them if `silent`."""

    silent = False

    @asynccontextmanager
    async def send(self, path: str, body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        """See `Engine`."""
        request = json.loads(body)
        async with super().send(path, body, model=model) as response:
            if response.status != 200 or not isinstance(request.get("prompt"), list):
                yield response
                return
            choice: dict[str, object] = {"text": ANSWER}
            if "prompt_logprobs" in request and not self.silent:
                each = [{str(token): {"logprob": LOGPROB}} for token in request["prompt"][1:]]
                choice["prompt_logprobs"] = [None, *each]
            answer = json.dumps({"choices": [choice]}).encode()
            yield FakeResponse(200, {"content-type": "application/json"}, [answer], False)
