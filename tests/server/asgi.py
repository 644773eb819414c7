"""An ASGI client by hand that can disconnect and records the messages that it receives."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from tests.server.conftest import BASE

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Exchange:
    """One request to an ASGI app. `hang_up` disconnects; `sent` holds the app's messages."""

    def __init__(self, path: str, *parts: bytes, hang_up_in_body: bool = False) -> None:
        self.sent: list[Message] = []
        self.started, self.gone = asyncio.Event(), asyncio.Event()
        self._messages: list[Message] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if not hang_up_in_body:
            self._messages.append({"type": "http.request", "body": b"", "more_body": False})
        else:
            self.gone.set()
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "http",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
            "client": ("127.0.0.1", 1), "server": ("weft", 80),
        }  # fmt: skip

    async def run(self, app: ASGIApp) -> None:
        """Run the app on the request."""
        await app(dict(self._scope), self._receive, self._send)

    def hang_up(self) -> None:
        """Disconnect."""
        self.gone.set()

    @property
    def status(self) -> int:
        """The answer's status."""
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        return {name.decode().lower(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        """The part of the body received so far."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        """True once the app has sent the end of the body."""
        return bool(self.sent) and not self.sent[-1].get("more_body", True)

    async def _receive(self) -> Message:
        if self._messages:
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self.started.set()
        await asyncio.sleep(0)


def ask(model: str = BASE, *, path: str = CHAT, stream: bool = False, **extra: Any) -> Exchange:
    """Return a valid exchange that requests `model`."""
    body: Mapping[str, Any] = {"model": model, "stream": stream, **extra}
    return Exchange(path, json.dumps(body).encode())
