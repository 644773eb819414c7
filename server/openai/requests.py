"""The fields of a request that the gateway reads; all others reach the engine unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from server.bodies import MAX_CHAT_VALUES, check_values, decode
from server.errors import RequestInvalid

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A chat or completion request: each field as the JSON that came, and its `model` field."""

    fields: Mapping[str, msgspec.Raw]
    model: str

    def get(self, name: str) -> Any:
        """Return the value of a field, parsed now; None if it was not sent."""
        return decode(self.fields[name], Any) if name in self.fields else None

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the request asks for log-probabilities of the prompt, in either of two ways."""
        echoed = self.get("echo") and self.get("logprobs") is not None
        return bool(echoed) or self.get("prompt_logprobs") is not None

    @property
    def prompt(self) -> str:
        """The text that stays constant through a conversation: instructions and first question.

        That is every system (or developer) message and the first user message; of a completion
        request the prompt, or the first of several. Empty where there is no text.
        """
        messages = self.get("messages")
        if not isinstance(messages, list):
            prompt = self.get("prompt")
            first = prompt[0] if isinstance(prompt, list) and prompt else prompt
            return first if isinstance(first, str) else ""
        chat = [message for message in messages if isinstance(message, dict)]
        system = [m for m in chat if m.get("role") in ("system", "developer")]
        user = [m for m in chat if m.get("role") == "user"]
        return "\n".join(filter(None, map(_text, [*system, *user[:1]])))

    def for_engine(self, model: str) -> bytes:
        """Return the body with `model` replaced."""
        return msgspec.json.encode({**self.fields, "model": model})


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
        RequestInvalid: not a JSON object, too many values in it, or without a usable `model`.
        BodyTooLarge, BodiesBusy, BodyTimeout: as `server.bodies` says.
    """
    raw = await request.body()
    check_values(raw, MAX_CHAT_VALUES)  # for the engine, which parses all of them
    fields = _fields(raw)
    model = decode(fields["model"], Any) if "model" in fields else None
    if not isinstance(model, str) or not model.strip():
        raise RequestInvalid(
            "`model` must be a string: the base, an adapter, a composition or an expression.",
            "model",
        )
    if not model.isprintable():
        # Line breaks, NUL and lone surrogates mean nothing here and would garble every message.
        raise RequestInvalid("`model` must have printable characters only.", "model")
    return CompletionRequest(fields, model.strip())


def _fields(raw: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of an object; their values are checked, and stay text."""
    try:
        raw.decode()
        return _OBJECT.decode(raw)
    except msgspec.ValidationError:
        raise RequestInvalid("The body must be a JSON object.") from None
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RequestInvalid(f"The body is not JSON: {error}.") from error
