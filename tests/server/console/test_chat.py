"""The answer of a chat while it streams: its text, its times, and how it ends."""

import json
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from server.console.api.chat import Answer, ask
from server.console.api.client import Api, connection
from server.server_timing import parse_server_timing


def event(**fields: object) -> bytes:
    """Return an event of a stream."""
    return f"data: {json.dumps(fields)}\n\n".encode()


def word(text: str) -> bytes:
    """Return the event of a word."""
    return event(choices=[{"delta": {"content": text}}])


DONE = b"data: [DONE]\n\n"


def api_that(answer: httpx.Response) -> Api:
    """Return an API that answers everything so."""
    return Api(connection("http://weft", httpx.MockTransport(lambda _: answer)), "secret")


def streamed(*parts: bytes, **headers: str) -> Api:
    """Return an API that streams these parts."""

    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    head = {
        "content-type": "text/event-stream",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    return api_that(httpx.Response(200, headers=head, content=body()))


def ticking() -> Callable[[], float]:
    """Return a clock that goes on by a second at each look."""
    seconds: Iterator[int] = iter(range(1000))
    return lambda: float(next(seconds))


async def answer_of(api: Api) -> Answer:
    """Return the answer at its end."""
    async for answer in ask(api, {"model": "x"}, clock=ticking()):
        last = answer
    return last


async def test_an_answer_has_its_times_its_tokens_and_what_answered() -> None:
    """The first token's time is that of the first text, the total that of the end."""
    api = streamed(
        event(choices=[{"delta": {"role": "assistant", "content": ""}}]),
        word("two"), word(" words"), event(choices=[], usage={"completion_tokens": 2}), DONE,
        x_weft_artifact="a0" * 32, server_timing="resolve;dur=0.2, merge;dur=90.0",
    )  # fmt: skip
    answer = await answer_of(api)
    assert ("two words", 2, None) == (answer.text, answer.tokens, answer.error)
    assert (2.0, 6.0) == (answer.first_token, answer.total)
    assert ("a0" * 32, {"resolve": 0.2, "merge": 90.0}) == (answer.artifact, answer.timings)


async def test_an_answer_that_was_cut_off_says_so() -> None:
    """A stream without its last event is an answer with an error, and keeps its text."""
    answer = await answer_of(streamed(word("half")))
    assert "half" == answer.text
    assert answer.error is not None
    assert "Ask again" in answer.error


async def test_an_error_in_the_stream_is_the_apis_words() -> None:
    """An error event in the middle of a stream is shown as it is."""
    answer = await answer_of(streamed(word("half"), event(error={"message": "the engine is gone"})))
    assert ("half", "the engine is gone") == (answer.text, answer.error)


async def test_a_refusal_is_an_answer_with_its_words() -> None:
    """A request that is refused has the API's words in place of an answer, and ends."""
    refused = {"error": {"message": "Nothing is registered as 'legl'.", "code": "model_not_found"}}
    answer = await answer_of(api_that(httpx.Response(404, json=refused)))
    assert "Nothing is registered as 'legl'." == answer.error
    assert answer.total is not None


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: []\n\n", b'data: {"choices": [3]}\n\n'])
async def test_a_stream_of_something_else_is_an_error(data: bytes) -> None:
    """What is no chat's stream, such as a proxy's page, ends as an error."""
    answer = await answer_of(streamed(data))
    assert answer.error is not None
    assert "not a chat's" in answer.error


def test_server_timing_is_read_by_stage() -> None:
    """Each stage of the header has its milliseconds; a header without any has none."""
    assert {"merge": 1.5} == parse_server_timing("merge;dur=1.5, cache")
    assert {} == parse_server_timing("")
