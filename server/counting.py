"""Counting answered requests by route and status."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.metrics import Metrics

_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")


class CountRequests:
    """Middleware that counts every answer; unknown paths share one label."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count the status of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in _ROUTES else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.request(route, message["status"])
            await send(message)

        await self._app(scope, receive, counted)
