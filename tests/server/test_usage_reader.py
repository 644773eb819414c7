"""The tokens of an answer, read from its bytes."""

import json
from typing import Any

import pytest

from server.meter import Measured
from server.openai.usage import UsageReader
from server.sse import frame

USAGE = {"prompt_tokens": 11, "total_tokens": 14, "completion_tokens": 3}


def event(**more: Any) -> bytes:
    """Return one event of a stream."""
    return frame(json.dumps({"model": "m", "choices": [{"text": 'a "usage"'}]} | more))


WORDS = [event(), event(), event()]
LAST = event(choices=[], usage=USAGE)
STREAM = [*WORDS, LAST, frame("[DONE]")]


def reader(*, hidden: bool = True) -> tuple[Measured, UsageReader]:
    """Return a reader of a request that reserved 50 tokens, 10 of them for its prompt."""
    measured = Measured(50, {})
    return measured, UsageReader(measured, hidden=hidden, prompt_tokens=10)


def passed(read: UsageReader, *parts: bytes) -> bytes:
    """Return what a client gets of a stream of these parts."""
    read.begin_stream()
    return b"".join([*map(read.part, parts), read.rest()])


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
@pytest.mark.parametrize("hidden", [True, False])
def test_a_stream_passes_but_for_the_usage_nobody_asked_for(size: int, hidden: bool) -> None:
    """However it is cut, every event passes; the usage passes only if the client asked for it."""
    measured, read = reader(hidden=hidden)
    data = b"".join(STREAM)
    answer = passed(read, *(data[i : i + size] for i in range(0, len(data), size)))
    expected = [part for part in STREAM if part != LAST or not hidden]
    assert b"".join(expected) == answer
    assert (11, 3) == (measured.prompt_tokens, measured.completion_tokens)


def test_a_stream_that_ends_early_is_counted_by_its_parts() -> None:
    """A client that leaves before the usage arrives has used a token for each part."""
    measured, read = reader()
    passed(read, *WORDS)
    assert (10, 3) == (measured.prompt_tokens, measured.completion_tokens)


def test_a_usage_in_every_part_passes() -> None:
    """A client that asks for the usage of every part gets it; the last one counts."""
    measured, read = reader(hidden=False)
    part = event(usage=USAGE)
    assert part == passed(read, part)
    assert 3 == measured.completion_tokens


def test_a_document_has_its_usage() -> None:
    """A whole answer is counted by its usage, and one that never came by what was reserved."""
    measured, read = reader()
    assert (10, 40) == (measured.prompt_tokens, measured.completion_tokens)
    read.document(json.dumps({"choices": [{}], "usage": USAGE}).encode())
    assert (11, 3) == (measured.prompt_tokens, measured.completion_tokens)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"usage": 5, "choices": []}', b'{"usage"'])
def test_other_documents_change_nothing(body: bytes) -> None:
    """A body without a usage leaves what was reserved."""
    measured, read = reader()
    read.document(body)
    assert (10, 40) == (measured.prompt_tokens, measured.completion_tokens)


def test_an_error_has_used_nothing() -> None:
    """A refusal of the engine counts no tokens, and passes unchanged."""
    measured, read = reader()
    assert b"{}" == read.document(b"{}", 400)
    assert (0, 0) == (measured.prompt_tokens, measured.completion_tokens)
