"""The fields of a request that the gateway reads; all others reach the engine unchanged."""

import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from server.errors import RequestInvalid

MAX_BODY_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A chat or completion request: its whole body, and its `model` field."""

    body: dict[str, Any]
    model: str

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the request asks for log-probabilities of the prompt, in either of two ways."""
        echoed = self.body.get("echo") and self.body.get("logprobs") is not None
        return bool(echoed) or self.body.get("prompt_logprobs") is not None

    @property
    def prompt(self) -> str:
        """The text that stays constant through a conversation: instructions and first question.

        That is every system (or developer) message and the first user message; of a completion
        request the prompt, or the first of several. Empty where there is no text.
        """
        messages = self.body.get("messages")
        if not isinstance(messages, list):
            prompt = self.body.get("prompt")
            first = prompt[0] if isinstance(prompt, list) and prompt else prompt
            return first if isinstance(first, str) else ""
        chat = [message for message in messages if isinstance(message, dict)]
        system = [m for m in chat if m.get("role") in ("system", "developer")]
        user = [m for m in chat if m.get("role") == "user"]
        return "\n".join(filter(None, map(_text, [*system, *user[:1]])))

    def for_engine(self, model: str) -> bytes:
        """Return the body with `model` replaced."""
        return json.dumps({**self.body, "model": model}).encode()


def _text(message: dict[str, Any]) -> str:
    """Return the text of a message, whose content may be a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


async def read_completion_request(request: Request) -> CompletionRequest:
    """Read and check a request.

    Raises:
        RequestInvalid: too large, not a JSON object, or without a usable `model`.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise RequestInvalid(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise RequestInvalid("The body must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model.strip():
        raise RequestInvalid(
            "`model` must be a string: the base, an adapter, a composition or an expression.",
            "model",
        )
    if not model.isprintable():
        # Line breaks, NUL and lone surrogates mean nothing here and would garble every message.
        raise RequestInvalid("`model` must have printable characters only.", "model")
    return CompletionRequest(body, model.strip())
