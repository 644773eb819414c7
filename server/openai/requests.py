"""The fields of a request that the gateway reads or sets; others reach the engine unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request

from server.bodies import MAX_CHAT_VALUES, check_media_type, check_values, decode
from server.compose.composition import NAME as COMPOSITION
from server.errors import RequestInvalid
from server.inference import ENDPOINTS, Endpoint

_MOST_TOKENS = 2**20
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_NULL = b"null"
# Where the text of a request is, and how many tokens of an answer it asks for.
_PROMPTS = ("prompt", "messages", "input")
_MOST = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_KEPT = ("previous_response_id", "background", "conversation")
# Controls of the engine that reach other requests: its queue, its ids, its cache.
_CONTROLS = frozenset({
    "priority", "request_id", "session_id", "kv_transfer_params", "ec_transfer_params",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A chat or completion request: each field as the JSON that came, and its `model` field."""

    fields: Mapping[str, msgspec.Raw]
    model: str
    endpoint: Endpoint = ENDPOINTS["/v1/chat/completions"]

    def get(self, name: str) -> Any:
        """Return the value of a field, parsed now; None if it was not sent."""
        return decode(self.fields[name], Any) if name in self.fields else None

    @property
    def composition(self) -> bytes | None:
        """The `composition` object as it came, or None; null counts as none."""
        raw = self.fields.get(COMPOSITION)
        return None if raw is None or bytes(raw) == _NULL else bytes(raw)

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the request asks for log-probabilities of the prompt, in either of two ways."""
        echoed = self.get("echo") and self.get("logprobs") is not None
        return bool(echoed) or self.get("prompt_logprobs") is not None

    @property
    def prompt(self) -> str:
        """The text that stays constant through a conversation: instructions and first question.

        That is every system (or developer) message and the first user message; of other requests
        the prompt or the input, or the first of several. Empty where there is no text.
        """
        messages = self.get("messages")
        if not isinstance(messages, list):
            messages = self._input_messages()
        if messages is None:
            prompt = self.get("prompt") or self.get("input")
            first = prompt[0] if isinstance(prompt, list) and prompt else prompt
            return first if isinstance(first, str) else ""
        chat = [message for message in messages if isinstance(message, dict)]
        system = [m for m in chat if m.get("role") in ("system", "developer")]
        user = [m for m in chat if m.get("role") == "user"]
        return "\n".join(filter(None, map(_text, [*system, *user[:1]])))

    def _input_messages(self) -> list[Any] | None:
        """Return the messages of a request to /v1/responses; None if its input is no list of such.

        Its instructions are the first.
        """
        messages, instructions = self.get("input"), self.get("instructions")
        if isinstance(messages, str) and instructions:
            messages = [{"role": "user", "content": messages}]
        if not isinstance(messages, list) or not any(isinstance(m, dict) for m in messages[:1]):
            return None
        return [{"role": "system", "content": instructions}, *messages]

    @property
    def answers(self) -> int:
        """How many answers are asked for: choices of each prompt, or beams, times prompts."""
        choices = max(_number(self.get("n")), _number(self.get("best_of")))
        return choices * max(_count(self.fields.get(name)) for name in _PROMPTS)

    @property
    def hides_usage(self) -> bool:
        """Whether its stream is not to end with the usage."""
        options = self.get("stream_options")
        return not (isinstance(options, dict) and options.get("include_usage"))

    @property
    def prompt_tokens(self) -> int:
        """The tokens of its prompt by estimate: one for four bytes; none if no model runs."""
        if not self.endpoint.uses_adapter:
            return 0
        return sum(len(self.fields.get(name, b"")) for name in _PROMPTS) // 4

    @property
    def max_tokens(self) -> int:
        """The tokens that it may take by estimate: the prompt's, and as many as it asks for."""
        asked = [self.get(name) for name in _MOST]
        most = max((value for value in asked if isinstance(value, int)), default=0)
        return self.prompt_tokens + min(max(most, 0), _MOST_TOKENS) * self.answers

    def for_engine(self, model: str, *, salt: str, controls: bool) -> bytes:
        """Return the body for the engine. A stream is to end with its usage.

        Args:
            model: replaces `model`.
            salt: of the engine's prefix cache; it replaces the sender's.
            controls: whether the sender may reach the engine's controls, such as its priority.
        """
        fields: dict[str, Any] = {
            name: value for name, value in self.fields.items() if controls or name not in _CONTROLS
        }
        fields.pop(COMPOSITION, None)
        options = self.get("stream_options")
        streams = self.endpoint.asks_usage and self.get("stream") is True
        if streams and isinstance(options, dict | None):
            fields["stream_options"] = {**(options or {}), "include_usage": True}
        if self.endpoint.keeps_answers:
            fields["store"] = False
        return msgspec.json.encode({**fields, "model": model, "cache_salt": salt})


def _number(value: Any) -> int:
    """Return a number as vLLM reads it, from a text too; 1 for what it will refuse."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 1


def _count(prompts: msgspec.Raw | None) -> int:
    """Return the number of prompts: a list of texts or of lists of tokens has several.

    Conversations are long and are one prompt, so they are told by their first character.
    """
    text = b"" if prompts is None else bytes(prompts)
    several = text.startswith(b"[") and text[1:].lstrip().startswith((b'"', b"["))
    return len(_LIST.decode(text)) if several else 1


def _text(message: dict[str, Any]) -> str:
    """Return the text of a message, whose content may be a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


async def read_completion_request(
    request: Request, endpoint: Endpoint, *, max_answers: int
) -> CompletionRequest:
    """Read and check a request.

    Raises:
        MediaTypeInvalid: the body is not said to be JSON.
        RequestInvalid: not a JSON object, too many values in it, without a usable `model`, or more
            than `max_answers` answers.
        BodyTooLarge, BodiesBusy, BodyTimeout: as `server.bodies` says.
    """
    check_media_type(request.headers)
    raw = await request.body()
    check_values(raw, MAX_CHAT_VALUES)  # for the engine, which parses all of them
    fields = _fields(raw)
    model = decode(fields["model"], Any) if "model" in fields else None
    composed = CompletionRequest(fields, "", endpoint)
    if composed.composition is not None and model in (None, ""):
        return _checked(composed, max_answers)
    if not isinstance(model, str) or not model.strip():
        raise RequestInvalid(
            "`model` must be a string: the base, an adapter, a composition or an expression.",
            "model",
        )
    if not model.isprintable():
        # Line breaks, NUL and lone surrogates mean nothing here and would garble every message.
        raise RequestInvalid("`model` must have printable characters only.", "model")
    return _checked(CompletionRequest(fields, model.strip(), endpoint), max_answers)


def _checked(completion: CompletionRequest, max_answers: int) -> CompletionRequest:
    _check_nothing_kept(completion)
    if completion.answers > max_answers:
        raise RequestInvalid(
            f"The request asks for {completion.answers} answers (prompts times `n`), and one "
            f"request may ask for {max_answers} (WEFT_MAX_ANSWERS). Send several requests.",
            "n",
        )
    return completion


def _check_nothing_kept(completion: CompletionRequest) -> None:
    """Refuse what needs the engine to keep answers: another key could ask for them.

    Raises:
        RequestInvalid: it continues an answer that was kept, or is to run in the background.
    """
    for name in _KEPT if completion.endpoint.keeps_answers else ():
        if completion.get(name):
            raise RequestInvalid(
                f"`{name}` needs a server that keeps answers, and weft keeps none. Send the whole "
                "conversation in `input`, and wait for the answer.",
                name,
            )


def _fields(raw: bytes) -> dict[str, msgspec.Raw]:
    """Return the fields of an object; their values are checked, and stay text."""
    try:
        raw.decode()
        return _OBJECT.decode(raw)
    except msgspec.ValidationError:
        raise RequestInvalid("The body must be a JSON object.") from None
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RequestInvalid(f"The body is not JSON: {error}.") from error
