"""Server-sent events: the parser reads the writer's events and the format's other forms."""

import pytest

from server.sse import KEEP_ALIVE, Event, frame, is_event_stream, parse


def test_what_is_framed_is_parsed() -> None:
    """Kinds and data come back in order; comments are ignored."""
    stream = frame('{"a": 1}', kind="metrics", number=7) + KEEP_ALIVE + frame("[DONE]")
    events = [Event("metrics", '{"a": 1}'), Event("message", "[DONE]")]
    assert events == list(parse(stream.decode().splitlines()))


def test_an_event_has_its_fields_on_lines() -> None:
    """The bytes are those of the format, and absent fields are left out."""
    assert b"id: 7\nevent: end\ndata: {}\n\n" == frame("{}", kind="end", number=7)
    assert b"data: {}\n\n" == frame("{}")


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("data:a\ndata: b\n\n", [Event("message", "a\nb")]),
        ("event: x\n\ndata: a\n\n", [Event("message", "a")]),
        ("retry: 5\ndata: a: b\n\n", [Event("message", "a: b")]),
        ("data: a\n\ndata: cut", [Event("message", "a")]),
    ],
)
def test_other_writers_events_are_read(text: str, events: list[Event]) -> None:
    """Lines of one event are joined, and an event that is cut off is left out."""
    assert events == list(parse(text.split("\n")))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("text/event-stream", True), ("Text/Event-Stream; charset=utf-8", True),
        ("application/json", False), ("", False),
    ],
)  # fmt: skip
def test_a_content_type_announces_events(header: str, expected: bool) -> None:
    """Parameters and upper case do not matter."""
    assert expected == is_event_stream(header)
