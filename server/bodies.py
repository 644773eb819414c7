"""Middleware that bounds the bodies of requests while they arrive, and JSON with bounded work.

A body is received only once its route asks for it, after the key and the role were checked, so a
refusal costs no memory. Parsing holds Python's global lock whatever thread it runs in: a document
is therefore measured first, in one pass of a few milliseconds, and parsed only if that is short.
"""

import asyncio
import time
from typing import Any

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import MediaTypeInvalid, RequestInvalid
from server.inference import INFERENCE_PATHS
from server.limits import BodyBudget, BodyTimeout, BodyTooLarge
from server.settings import Settings

# Values and names of a document. A prompt of 128,000 tokens as numbers has fewer values.
MAX_CHAT_VALUES = 300_000
MAX_JSON_VALUES = 100_000
# A response to an unread body of more than this closes the connection, so that nobody receives it.
_DISCARDED_BYTES = 2**20


def is_upload(path: str) -> bool:
    """Return whether a body sent to this path is files, and not JSON."""
    adapter = path.startswith("/registry/adapters/") and path.endswith("/-/versions")
    return adapter or path == "/v1/files"


def read_json(raw: bytes, *, max_values: int) -> Any:
    """Return the value of a JSON document.

    Raises:
        RequestInvalid: it is not JSON, nested too deeply, or has more than `max_values` values.
    """
    check_values(raw, max_values)
    return decode(raw, Any)


def check_media_type(headers: Headers) -> None:
    """Refuse a body that is not said to be JSON. A web page may send other types to any site.

    Raises:
        MediaTypeInvalid: it is said to be something else, or nothing.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("application/") and kind.endswith(("/json", "+json"))):
        raise MediaTypeInvalid(kind)


def decode(raw: bytes, kind: Any) -> Any:
    """Return the value of a JSON document as a value of `kind`.

    Raises:
        RequestInvalid: it is not JSON, nested too deeply, or of another kind.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RequestInvalid(f"The body is not JSON: {error}.") from error


def check_values(raw: bytes, max_values: int) -> None:
    """Refuse a JSON document with too many values, without parsing it.

    Raises:
        RequestInvalid: it has more than `max_values` values.
    """
    if _separators(raw) < max_values:  # commas and brackets in texts count, too
        return
    quotes = raw.replace(rb"\\", b"").replace(rb"\"", b"")
    texts = quotes.count(b'"') // 2
    if texts > max_values or _separators(b"".join(quotes.split(b'"')[::2])) >= max_values:
        raise RequestInvalid(
            f"The body has more than {max_values} values. Send fewer, or split the request."
        )


def _separators(raw: bytes) -> int:
    """Return the number of characters that begin a value or separate two."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


class LimitBodies:
    """Middleware that bounds each body, all bodies together, and the time that one takes."""

    def __init__(self, app: ASGIApp, settings: Settings, budget: BodyBudget) -> None:
        self._app, self._settings, self._budget = app, settings, budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its body raises what is wrong with it when it is received."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._limit(scope), self._budget, self._settings.body_seconds)

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and body.unread_bytes > _DISCARDED_BYTES:
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, body.receive, send_and_close)
        finally:
            body.release()

    def _limit(self, scope: Scope) -> int | None:
        """Return the limit in bytes, or None for an upload, which its route bounds."""
        path = scope["path"]
        if path in INFERENCE_PATHS:
            return self._settings.chat_max_bytes
        if is_upload(path):
            return None
        return self._settings.json_max_bytes


class _Body:
    """The body of one request while it arrives."""

    def __init__(
        self, scope: Scope, receive: Receive, limit: int | None, budget: BodyBudget, seconds: float
    ) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        self._declared = int(length) if length.isdecimal() else None
        self._chunked = "transfer-encoding" in headers
        self._receive, self._limit, self._budget = receive, limit, budget
        self._seconds, self._until = seconds, 0.0
        self._received = self._held = 0
        self._ended = False

    @property
    def unread_bytes(self) -> float:
        """How much of the body was not received; infinite if the sender did not say."""
        if self._ended or (self._declared is None and not self._chunked):
            return 0
        return float("inf") if self._declared is None else self._declared - self._received

    async def receive(self) -> Message:
        """Return the next message of the request.

        Raises:
            BodyTooLarge, BodiesBusy, BodyTimeout: as they say.
        """
        if self._ended:
            return await self._receive()
        if self._limit is not None and (self._declared or 0) > self._limit:
            raise BodyTooLarge(self._limit)
        message = await self._arriving()
        size = len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        self._received += size
        if self._limit is not None:
            if self._received > self._limit:
                raise BodyTooLarge(self._limit)
            self._budget.take(size)
            self._held += size
        return message

    async def _arriving(self) -> Message:
        """Return the next message in time: a body has one limit, each part of an upload its own."""
        now = time.monotonic()
        if self._limit is None or not self._until:
            self._until = now + self._seconds
        try:
            async with asyncio.timeout(self._until - now):
                return await self._receive()
        except TimeoutError:
            raise BodyTimeout(self._seconds) from None

    def release(self) -> None:
        """Give the bytes of the body back: the request has ended."""
        self._budget.give(self._held)
        self._held = 0
