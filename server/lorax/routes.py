"""`POST /generate`, `/generate_stream` and `/`: LoRAX's routes, over the relay of completions."""

import json
from typing import Any

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from server.auth import Chatter
from server.bodies import MAX_CHAT_VALUES, check_media_type, check_values
from server.inference import LORAX_PATHS
from server.lorax.answers import Events, failure, whole
from server.lorax.errors import lorax_error
from server.lorax.requests import Generate, completion_of, read_generate
from server.openai.relay import Relay
from server.routing import engine_routes, hand_over
from server.sse import is_event_stream

_COMPLETIONS = "/v1/completions"
_STREAMED, _LISTED = "/generate_stream", "/"
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "inputs": {"type": "string", "examples": ["The court that decides is"]},
                        "parameters": {"type": "object"},
                        "stream": {"type": "boolean", "default": False},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


def lorax_router(relay: Relay, *, base: str) -> APIRouter:
    """Return LoRAX's routes; `base` answers requests without an adapter."""
    router = engine_routes("", "inference")

    async def generate(_: Chatter) -> None:
        """Complete a prompt as LoRAX does, with one adapter or a merge of several."""

    for path in sorted(LORAX_PATHS):
        router.post(path, name=path, response_class=JSONResponse, openapi_extra=_BODY)(generate)
    hand_over(router, _Answer(relay, base))
    return router


class _Answer:
    """An ASGI app whose answers the relay writes and this translates."""

    def __init__(self, relay: Relay, base: str) -> None:
        self._relay, self._base = relay, base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            request, body = await self._read(Request(scope, receive))
        except ClientDisconnect:
            return
        except Exception as error:
            await lorax_error(error)(scope, receive, send)
            return
        translate = _Translation(send, request, listed=scope["path"] == _LISTED)
        inner = {**scope, "path": _COMPLETIONS, "raw_path": _COMPLETIONS.encode()}
        await self._relay(inner, _with_body(body, receive), translate)

    async def _read(self, request: Request) -> tuple[Generate, bytes]:
        check_media_type(request.headers)
        raw = await request.body()
        check_values(raw, MAX_CHAT_VALUES)
        generate = read_generate(raw)
        stream = generate.stream or request.url.path == _STREAMED
        return generate, completion_of(generate, base=self._base, stream=stream)


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Return what receives `body`, and then what the client does."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return parts.pop() if parts else await receive()

    return received


class _Translation:
    """Sends the relay's messages on in LoRAX's form."""

    def __init__(self, send: Send, request: Generate, *, listed: bool) -> None:
        self._send, self._request, self._listed = send, request, listed
        self._events: Events | None = None
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Take one message of the relay."""
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._events is not None:
            await self._send({**message, "body": self._events.feed(message.get("body", b""))})
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish()

    async def _begin(self, message: Message) -> None:
        headers = dict(message["headers"])
        if is_event_stream(headers.get(b"content-type", b"").decode("latin-1")):
            self._events = Events(self._request)
            await self._send(message)
            return
        kept = [pair for pair in message["headers"] if pair[0].lower() != b"content-length"]
        self._start = {**message, "headers": kept}

    async def _finish(self) -> None:
        status, document = self._start["status"], json.loads(self._body)
        answer: Any = failure(status, document)
        if status == 200:
            answer = whole(self._request, document)
            answer = [answer] if self._listed else answer
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": json.dumps(answer).encode()})
