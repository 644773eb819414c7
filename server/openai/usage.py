"""The tokens of an answer, read from its bytes while they pass.

vLLM ends a stream with a part that has the usage if the request asks for it. The gateway always
asks, and keeps that part from clients that did not. A stream that ends earlier is counted by its
parts, each of which has at least one token.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from server.meter import Measured
from server.openai.merged import AnsweredBy

_END = b"\n\n"


class UsageReader:
    """Reads the usage of one answer into `Measured`."""

    def __init__(
        self, measured: Measured, *, hidden: bool, prompt_tokens: int, by: AnsweredBy | None = None
    ) -> None:
        """Create it for a request that has reached the engine.

        Args:
            measured: where the tokens are counted.
            hidden: whether the client did not ask for the usage of its stream.
            prompt_tokens: the prompt's tokens by estimate, which count until they are known.
            by: the artifact that answers; the usage of a merge says what was merged.
        """
        self._measured, self._hidden, self._by = measured, hidden, by
        measured.prompt_tokens = prompt_tokens
        measured.completion_tokens = measured.reserved_tokens - prompt_tokens

    def document(self, body: bytes, status: int = 200) -> bytes:
        """Return the body of a whole answer, whose usage is counted; an error has used nothing."""
        if status != 200:
            self._measured.prompt_tokens = self._measured.completion_tokens = 0
        else:
            self._take(_json(body))
        return self._told(body)

    async def stream(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what the client gets of a stream, in whole events."""
        self._measured.completion_tokens = 0  # counted by its parts from here on
        rest = b""
        async for data in parts:
            *events, rest = (rest + data).split(_END)
            kept = b"".join(self._told(event) + _END for event in events if not self._hides(event))
            if kept:
                yield kept
        if rest:
            yield rest

    def _told(self, answer: bytes) -> bytes:
        return answer if self._by is None else self._by.in_usage(answer)

    def _hides(self, event: bytes) -> bool:
        if b'"usage"' not in event:
            self._measured.completion_tokens += b'"choices"' in event or b'.delta"' in event
            return False
        part = _json(event.partition(b"data:")[2])
        if isinstance(part, dict) and isinstance(part.get("response"), dict):
            part = part["response"]  # of /v1/responses, whose last events have the whole answer
        return self._take(part) and part.get("choices") == [] and self._hidden

    def _take(self, answer: Any) -> bool:
        """Count the usage of an answer or the last part of one, and return whether it has one."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        if not isinstance(usage, dict):
            return False
        prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
        completion = usage.get("completion_tokens", usage.get("output_tokens"))
        if isinstance(prompt, int) and isinstance(completion, int | None):
            self._measured.prompt_tokens = prompt
            self._measured.completion_tokens = completion or 0
        return True


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
