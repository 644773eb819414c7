"""A completion's answer, whole or as events, in LoRAX's form."""

import json
from collections.abc import Iterator
from typing import Any

from server.lorax.errors import error_body
from server.lorax.requests import Generate
from server.sse import frame

_END = b"\n\n"
_REASONS = {"length": "length"}


def whole(request: Generate, completion: dict[str, Any]) -> dict[str, Any]:
    """Return LoRAX's answer for a whole completion."""
    (choice, *_) = completion["choices"]
    prefix = request.inputs if request.asked.return_full_text else ""
    answer: dict[str, Any] = {"generated_text": prefix + choice["text"]}
    if request.asked.details:
        details = _details(request, choice, completion.get("usage") or {})
        answer["details"] = details | {"prefill": [], "tokens": list(_tokens(choice))}
    return answer


def failure(status: int, body: dict[str, Any]) -> dict[str, Any]:
    """Return LoRAX's error for an OpenAI error object, ours or the engine's."""
    error = body.get("error")
    told = error if isinstance(error, dict) else {}
    return error_body(status, str(told.get("message", body)), str(told.get("code") or ""))


class Events:
    """Turns the events of a streamed completion into LoRAX's.

    The last event has the whole text and the details, which are known after the last token: each
    token waits for what follows it.
    """

    def __init__(self, request: Generate) -> None:
        self._request = request
        self._rest = b""
        self._text: list[str] = []
        self._waiting: dict[str, Any] | None = None
        self._last: dict[str, Any] = {}  # the choice that ends the answer

    def feed(self, data: bytes) -> bytes:
        """Return the events that follow from more bytes of the stream."""
        *events, self._rest = (self._rest + data).split(_END)
        return b"".join(part for event in events for part in self._turned(event))

    def _turned(self, event: bytes) -> Iterator[bytes]:
        data = event.removeprefix(b"data:").strip()
        if data == b"[DONE]" or not data.startswith(b"{"):
            return
        part = json.loads(data)
        if "error" in part:
            yield frame(json.dumps(failure(500, part)))
            return
        for choice in part["choices"]:
            if choice.get("finish_reason") is not None:
                self._last = choice
            for token in _tokens(choice):
                yield from self._flushed()
                self._waiting = token
            self._text.append(choice.get("text") or "")
        if not part["choices"]:  # the usage, which comes last
            yield self._ended(part.get("usage") or {})

    def _flushed(self) -> Iterator[bytes]:
        if self._waiting is not None:
            event = {"token": self._waiting, "generated_text": None, "details": None}
            yield frame(json.dumps(event))

    def _ended(self, usage: dict[str, Any]) -> bytes:
        prefix = self._request.inputs if self._request.asked.return_full_text else ""
        return frame(json.dumps({
            "token": self._waiting or _token(0, "", 0.0),
            "generated_text": prefix + "".join(self._text),
            "details": _details(self._request, self._last, usage),
        }))  # fmt: skip


def _details(request: Generate, choice: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    reason = choice.get("finish_reason")
    by_text = isinstance(choice.get("stop_reason"), str)
    return {
        "finish_reason": _REASONS.get(reason or "", "stop_sequence" if by_text else "eos_token"),
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "generated_tokens": usage.get("completion_tokens", 0),
        "seed": request.asked.seed,
    }


def _tokens(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tokens of a choice; without log-probabilities its text is one."""
    scores = choice.get("logprobs") or {}
    texts, numbers = scores.get("tokens"), scores.get("token_logprobs")
    ids = choice.get("token_ids") or []
    if not texts:
        if choice.get("text"):
            yield _token(ids[0] if ids else 0, choice["text"], 0.0)
        return
    for place, text in enumerate(texts):
        yield _token(ids[place] if place < len(ids) else 0, text, (numbers or [])[place] or 0.0)


def _token(number: int, text: str, logprob: float) -> dict[str, Any]:
    return {"id": number, "text": text, "logprob": logprob, "special": False}
