"""Server-sent events as OpenAI's API uses them."""

import json

from server.errors import envelope

EVENT_STREAM = "text/event-stream"


def is_event_stream(content_type: str) -> bool:
    """Say whether a Content-Type header announces events."""
    return content_type.partition(";")[0].strip().lower() == EVENT_STREAM


def error_event(error: BaseException) -> bytes:
    """Return the event that ends a stream after its first byte; no `[DONE]` follows it."""
    _, body = envelope(error)
    return b"data: " + json.dumps(body).encode() + b"\n\n"
