"""API keys: when the settings name any, every route but /health wants one."""

import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import KeyInvalid, error_response

_OPEN_PATHS = frozenset({"/health"})


class RequireKey:
    """Middleware that lets a request in with one of `keys` as its bearer token."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS and self._keys:
            scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
            given = key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
            # Every key is compared, in constant time each: timing tells nothing about them.
            if not any([hmac.compare_digest(given, key) for key in self._keys]):  # noqa: C419
                await error_response(KeyInvalid())(scope, receive, send)
                return
        await self._app(scope, receive, send)
