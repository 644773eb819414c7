"""What the pages Compose and Compare make of values: options, figures, drafts, candidates."""

import json

import httpx
import pytest

from server.console.api.candidates import Candidate, candidates
from server.console.api.client import Api, connection
from server.console.api.composing import MethodOption
from server.console.pages.compose.draft import Draft
from server.console.pages.compose.editor import Editor, address_of
from server.console.pages.compose.explained import duration, size
from server.console.pages.compose.method import read_option

RANK = MethodOption(
    name="rank", type="integer", default="auto", meaning="", accepts="", choices=[],
    words=["auto", "none"], minimum=1, above_minimum=False, maximum=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("0.5", 0.5), ("auto", "auto"), ("none", None), (" ", "auto"), ("big", "big")],
)
def test_a_field_is_a_number_a_word_or_text(text: str, value: object) -> None:
    """A field's text is a number where it is one, none, a word, its default, or left to the API."""
    read = read_option(RANK, text)
    assert (value, type(value)) == (read, type(read))


def test_figures_have_the_unit_that_suits_them() -> None:
    """Bytes and seconds are shown with three digits in a unit; what is not known is not shown."""
    assert ["999 B", "1.4 MB", "84 GB"] == [size(n) for n in (999, 1_400_000, 84_000_000_000)]
    assert ["7 ms", "2.1 s"] == [duration(seconds) for seconds in (0.007, 2.1)]
    assert (None, None) == (size(None), duration(None))


async def test_an_answer_that_comes_too_late_changes_no_draft() -> None:
    """What was written while the server read an expression stays; its answer is not the draft."""
    late: dict[str, object] = {
        "kind": "merge", "base": "b", "expression": "cat(a)", "recipe": None, "artifact": None,
        "composition": {"method": "cat", "adapters": [{"name": "a"}]}, "rank": 1, "nbytes": 1,
        "memory_bytes": 1, "seconds": 1.0, "ingredients": [], "cosines": [], "warnings": [],
    }  # fmt: skip

    def answer(request: httpx.Request) -> httpx.Response:
        assert {"model": "cat(a)"} == json.loads(request.content)
        editor.change(Draft().add("mine"))
        return httpx.Response(200, json=late)

    editor = Editor(Api(connection("http://weft", httpx.MockTransport(answer)), None))
    editor.write_expression("cat(a)")
    await editor.explain()
    assert Draft().add("mine") == editor.draft
    assert editor.explanation is None
    assert {"composition": '{"method": "linear", "adapters": [{"name": "mine"}]}'} == address_of(
        editor
    )


async def test_candidates_that_the_engine_served_are_columns() -> None:
    """A job's candidates that have answered can be compared, the best first."""
    report = {
        "ranked": ["best", "base", "other"],
        "candidates": [
            {"name": "other", "title": "Other", "served": {"artifact": "b" * 64}},
            {"name": "best", "title": "Best", "served": {"artifact": "a" * 64}},
            {"name": "base", "title": "Base", "served": None},
        ],
    }
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=report))
    found = await candidates(Api(connection("http://weft", transport), None), "ftjob-1")
    assert [
        Candidate(model="a" * 64, title="Best"), Candidate(model="b" * 64, title="Other"),
    ] == found  # fmt: skip
