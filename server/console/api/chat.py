"""A chat: the answer while it streams, with its times and what the server says of it."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from server.console.api.client import Api
from server.console.api.errors import Refused
from server.console.api.events import events_of
from server.server_timing import parse_server_timing

_DONE = "[DONE]"
_SECONDS = 900.0  # between two parts of an answer: the first may wait for a merge


@dataclass(slots=True)
class Answer:
    """One model's answer to one prompt; times are seconds since it was asked."""

    text: str = ""
    first_token: float | None = None
    total: float | None = None
    tokens: int | None = None
    artifact: str | None = None  # the digest that answered; None: the base
    timings: Mapping[str, float] = field(default_factory=dict)  # milliseconds by stage
    error: str | None = None
    whole: bool = False

    def begin(self, headers: Mapping[str, str]) -> None:
        """Take what the head of the answer says."""
        self.artifact = headers.get("x-weft-artifact")
        self.timings = parse_server_timing(headers.get("server-timing", ""))

    def take(self, data: str, seconds: float) -> None:
        """Take one event of the stream."""
        if data == _DONE:
            self.whole = True
            return
        part: Any = json.loads(data)
        if "error" in part:
            self.error = str(part["error"]["message"])
            return
        self.tokens = (part.get("usage") or {}).get("completion_tokens", self.tokens)
        for choice in part["choices"]:
            piece = choice["delta"].get("content")
            if piece:
                self.first_token = seconds if self.first_token is None else self.first_token
                self.text += piece

    def end(self, seconds: float) -> None:
        """Note the end of the stream; without its last event it was cut off."""
        self.total = seconds
        if not self.whole and self.error is None:
            self.error = "The connection closed before the answer's end. Ask again."


async def ask(
    api: Api, body: Mapping[str, object], *, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Answer]:
    """Yield the answer to a streamed chat each time it has grown, at last whole or with its error.

    Args:
        api: the server and the key.
        body: of the request, with `stream`.
        clock: in seconds.
    """
    answer, started = Answer(), clock()
    try:
        async with api.stream(
            "POST", "/v1/chat/completions", json=body, seconds=_SECONDS
        ) as response:
            answer.begin(response.headers)
            async for event in events_of(response):
                answer.take(event.data, clock() - started)
                yield answer
    except Refused as error:
        answer.error = str(error)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        answer.error = f"The server's stream is not a chat's: {error!r:.200}"
    answer.end(clock() - started)
    yield answer
