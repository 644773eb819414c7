"""Server-sent events: how they are written to a stream and read from one.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html. Standard
library only: the command line imports this.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

EVENT_STREAM = "text/event-stream"
KEEP_ALIVE = b": still there\n\n"  # a comment, which clients ignore


class Event(NamedTuple):
    """One event as it was read."""

    kind: str  # "message" where the stream names none
    data: str


def is_event_stream(content_type: str) -> bool:
    """Return whether a Content-Type header announces events."""
    return content_type.partition(";")[0].strip().lower() == EVENT_STREAM


def frame(data: str, *, kind: str | None = None, number: int | None = None) -> bytes:
    """Return an event as bytes of a stream.

    Args:
        data: one line, such as JSON without line breaks.
        kind: the event's name.
        number: its id, from which a client that lost the connection goes on.
    """
    lines = (("id", number), ("event", kind), ("data", data))
    text = "".join(f"{name}: {value}\n" for name, value in lines if value is not None)
    return f"{text}\n".encode()


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events in a stream's lines; one that the stream's end cuts off is left out."""
    kind, data = "", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif not line:
            if data:
                yield Event(kind or "message", "\n".join(data))
            kind, data = "", []
