"""What every request to the console must satisfy, and the headers of every answer.

A page of another site must not reach the console through the reader's browser: not by a name that
it points at this machine, not by a form, not by a WebSocket.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from server.sites import is_loopback

_SAFE = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    # Pages are built by scripts of the console itself, which evaluate their templates.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'; "
        "object-src 'none'"
    ),
    # With no-referrer, a browser sends the sign-in's own form with `Origin: null`.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Middleware that refuses requests of other sites and to other hosts.

    Args:
        app: what it protects.
        hosts: names that the console answers for beside those of this machine; `*` is every name.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = ()) -> None:
        self._app, self._hosts = app, {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the headers of every answer, or answer 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope, Headers(scope=scope))
        if problem is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await WebSocketClose(1008, "another site")(scope, receive, send)
        else:
            await PlainTextResponse(problem, 403)(scope, receive, send)

    def _problem(self, scope: Scope, headers: Headers) -> str | None:
        host = headers.get("host", "").lower()
        name = _name_of(host)
        if not (is_loopback(name) or name in self._hosts or "*" in self._hosts):
            return (
                f"This console does not answer for the host {name!r:.100}. Open it by an address "
                f"of its machine, or start it with --allow-host {name:.100}"
            )
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        origin = headers.get("origin")
        if changes and origin is not None and urlsplit(origin).netloc.lower() != host:
            return "Pages of other sites cannot use this console."
        return None


def _with_headers(send: Send) -> Send:
    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_HEADERS)
        await send(message)

    return send_with


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""
