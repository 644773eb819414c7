"""The tokens of an answer, read from its bytes while they pass.

vLLM ends a stream with a part that has the usage if the request asks for it. The gateway always
asks, and keeps that part from clients that did not. A stream that ends earlier is counted by its
parts, each of which has at least one token.
"""

import json
from typing import Any

from server.meter import Measured
from server.openai.merged import AnsweredBy

_END = b"\n\n"
# In a text every quote is escaped, so that these are keys and kinds of events.
_USAGE, _CHOICES, _DELTA = b'"usage"', b'"choices"', b'.delta"'


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
        self._rest = b""  # the beginning of an event whose end has not come

    def document(self, body: bytes, status: int = 200) -> bytes:
        """Return the body of a whole answer, whose usage is counted; an error has used nothing."""
        if status != 200:
            self._measured.prompt_tokens = self._measured.completion_tokens = 0
        else:
            self._take(_json(body))
        return self._told(body)

    def begin_stream(self) -> None:
        """Count the tokens of a stream by its parts, from here on."""
        self._measured.completion_tokens = 0

    def part(self, data: bytes) -> bytes:
        """Return what the client gets of a stream for some of its bytes: whole events, or none."""
        if not self._rest and _USAGE not in data and data.endswith(_END):  # nearly every part
            self._measured.completion_tokens += data.count(_CHOICES) + data.count(_DELTA)
            return data
        *events, self._rest = (self._rest + data).split(_END)
        return b"".join(self._told(event) + _END for event in events if not self._hides(event))

    def rest(self) -> bytes:
        """Return the event that the end of the stream has cut off."""
        return self._rest

    def _told(self, answer: bytes) -> bytes:
        return answer if self._by is None else self._by.in_usage(answer)

    def _hides(self, event: bytes) -> bool:
        if _USAGE not in event:
            self._measured.completion_tokens += event.count(_CHOICES) + event.count(_DELTA)
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
