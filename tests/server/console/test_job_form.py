"""The fields of a job's options, and bad lines in their place."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from server.console.api.examples import Problem
from server.console.api.job_options import JobOption, JobOptions
from server.console.pages.jobs.bad_lines import BadLine, bad_lines
from server.console.pages.jobs.option_fields import (
    OptionField,
    OptionNotReadable,
    changed_values,
    text_of,
    value_of,
)


def option(kind: Any, default: object = None, name: str = "it") -> JobOption:
    """Return an option of a type."""
    return JobOption(
        name=name, method=None, type=kind, default=default, meaning="means", accepts="all"
    )


async def chunks(text: bytes, size: int) -> AsyncIterator[bytes]:
    """Yield a file in chunks of this size."""
    for at in range(0, len(text), size):
        yield text[at : at + size]


@pytest.mark.parametrize(
    ("kind", "entered", "value"),
    [
        ("integer", "12", 12),
        ("number", " 5e-2 ", 0.05),
        ("integer", "many", "many"),
        ("list", "5, 10", [5, 10]),
        ("object", '{"density": 0.2}', {"density": 0.2}),
        ("text", "^[a-z]+$", "^[a-z]+$"),
        ("boolean", False, False),
        ("text", "  ", None),
    ],
)
def test_entered_text_becomes_a_value(kind: str, entered: object, value: object) -> None:
    """What is typed is sent as JSON of the option's type; an empty field is the default."""
    assert value_of(option(kind), entered) == value


@pytest.mark.parametrize("entered", ["density", "[1]"])
def test_an_object_is_written_as_json(entered: str) -> None:
    """A field for an object refuses other text, and shows what is expected."""
    with pytest.raises(OptionNotReadable, match=r'it: expected an object such as \{"density": 0.2'):
        value_of(option("object", {}), entered)


@pytest.mark.parametrize(
    ("kind", "default"),
    [("list", [30]), ("object", {}), ("number", 0.05), ("integer", 8), ("text", None),
     ("text", "average")],
)  # fmt: skip
def test_a_default_is_shown_as_it_is_read(kind: str, default: object) -> None:
    """A field that is left alone holds the option's default."""
    untouched = option(kind, default)
    assert value_of(untouched, text_of(untouched)) == default


def test_only_changed_options_are_sent() -> None:
    """Options that are left alone are not in the request: the server's defaults stand."""
    fields = [
        OptionField(option("integer", 8, "batch_size"), lambda: "8"),
        OptionField(option("integer", 100, "steps"), lambda: "20"),
    ]
    assert changed_values(fields) == {"steps": 20}


def test_a_method_has_its_own_options() -> None:
    """The form of a method has its options and those of all methods."""
    options = JobOptions(
        methods=[], serve=[], fewest_examples=10,
        options=[option("choice", name="method"), option("list", name="k"),
                 option("integer", name="steps").model_copy(update={"method": "recycle"}),
                 option("integer", name="budget").model_copy(update={"method": "lorahub"})],
    )  # fmt: skip
    assert [each.name for each in options.of("recycle")] == ["k", "steps"]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_bad_lines_are_shown_in_place(size: int) -> None:
    """A bad line is shown with its number and its own text, before what follows it."""
    problems = [
        Problem(file="training_file", line=3, message="not JSON"),
        Problem(file="training_file", line=1, message='expected {"messages": […]}'),
        Problem(file="training_file", line=None, message="it has 3 examples"),
        Problem(file="validation_file", line=2, message="of the other file"),
    ]
    text = "{}\n\nnø\r\nlast".encode()
    assert await bad_lines(problems, "training_file", chunks(text, size)) == [
        BadLine(None, "", "it has 3 examples"),
        BadLine(1, "{}", 'expected {"messages": […]}'),
        BadLine(3, "nø", "not JSON"),
    ]


async def test_a_long_line_is_cut() -> None:
    """A line of any length is read, and its beginning is kept."""
    problem = Problem(file="training_file", line=1, message="too long")
    (line,) = await bad_lines([problem], "training_file", chunks(b"x" * 300_000, 4096))
    assert line.text == "x" * 1200
