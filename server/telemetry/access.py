"""Middleware: the request's id, in and out, and one line of the access log for each request."""

import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.telemetry import record, spans
from server.telemetry.logs import ACCESS

HEADER = "x-request-id"
# Asked every few seconds by balancers and Prometheus: logged only when the answer is no.
_QUIET = frozenset({"/health", "/ready", "/ping", "/metrics"})
_log = logging.getLogger(ACCESS)


class LogRequests:
    """Middleware that gives every request an id and logs how it ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer with its id, and log it once it has ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request = record.begin(headers.get(HEADER))
        started = time.perf_counter()
        status = 0  # none was sent: the client went away, or the request failed

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": list(message.get("headers", ()))}
                MutableHeaders(scope=message)[HEADER] = request.id
            await send(message)

        name, parent = f"{scope['method']} {_route(scope)}", headers.get("traceparent", "")
        with spans.span(name, parent=parent) as span:
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                status = status or 500  # Starlette answers it
                raise
            finally:
                fields = {"url.path": scope["path"], "http.response.status_code": status}
                span.add(fields | request.fields())
                _write(scope, status, time.perf_counter() - started)


def _route(scope: Scope) -> str:
    """Return the first two parts of the path; further ones can be names, which are many."""
    return "/".join(scope["path"].split("/")[:3])


def _write(scope: Scope, status: int, seconds: float) -> None:
    if scope["path"] in _QUIET and status < 400:
        return
    fields: dict[str, str | int | float] = {
        "method": scope["method"], "path": scope["path"], "status": status,
        "seconds": round(seconds, 4),
    }  # fmt: skip
    request = record.current()
    if request is not None:
        if request.prompt_tokens or request.completion_tokens:
            fields["prompt_tokens"] = request.prompt_tokens
            fields["completion_tokens"] = request.completion_tokens
        fields |= {f"{stage}_seconds": round(s, 4) for stage, s in request.stages.items()}
    _log.info("request", extra={"fields": fields})
