"""The filter language: valid filters, and the errors of invalid ones."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.search.errors import FilterInvalid
from registry.search.filters import FIELDS, Condition, parse_filter


@pytest.mark.parametrize("text", ["", "  ", "\t\n"])
def test_an_empty_filter_has_no_conditions(text: str) -> None:
    """An empty filter matches everything."""
    assert () == parse_filter(text)


def test_several_conditions() -> None:
    """White space separates conditions; numbers and times get their types."""
    expected = (
        Condition("base", "=", ("llama-3.1-8b",)),
        Condition("rank", "<=", (16,)),
        Condition("tag", "=", ("legal", "tax")),
        Condition("created", ">", (datetime(2026, 1, 1, tzinfo=UTC),)),
    )
    text = "base=Llama-3.1-8B rank<=16  tag=legal,tax\tcreated>2026-01-01"
    assert expected == parse_filter(text)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ('licence="Apache 2.0"', Condition("licence", "=", ("apache 2.0",))),
        ("licence != mit,apache-2.0", Condition("licence", "!=", ("mit", "apache-2.0"))),
        ("TAG=Law", Condition("tag", "=", ("law",))),
        ("name=acme/", Condition("name", "=", ("acme/",))),
        ("lora_dropout<0.05", Condition("lora_dropout", "<", (0.05,))),
        ("lora_dropout=1.0,0", Condition("lora_dropout", "=", (1.0, 0.0))),
        ("status=Retired", Condition("status", "=", ("retired",))),
        (
            "created>=2026-01-01T12:00:00+02:00",
            Condition("created", ">=", (datetime(2026, 1, 1, 10, tzinfo=UTC),)),
        ),
    ],
)
def test_one_condition(text: str, condition: Condition) -> None:
    """Values may be quoted and are compared in lower case; spaces may stand around operators."""
    assert (condition,) == parse_filter(text)


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("license=mit", 0, "a field"),
        ("rank", 4, "one of = != < <= > >="),
        ("tag<legal", 3, "one of = !="),
        ("rank=many", 5, "a whole number"),
        ("rank=1.5", 5, "a whole number"),
        ("rank=²", 5, "a whole number"),
        ("rank=99999999999999999999", 5, "a whole number"),
        *(
            (f"lora_dropout={text}", 13, "a number from 0 to 1, such as 0.05")
            for text in ("lots", "1.5", "-1", "nan")
        ),
        ("created>yesterday", 8, "a day"),
        ("created>2026-13-01", 8, "a day"),
        ("created>0001-01-01T00:00:00+10:00", 8, "a day"),
        ("status=gone", 7, "one of admitted, quarantined, retired"),
        ("tag=", 4, "a value"),
        ("tag=a,", 6, "a value"),
        ('tag="a', 4, "a value"),
        ('tag=""', 4, "a value"),
        ('tag="a\0"', 4, "a value"),
        ('tag="a"rank=1', 7, "a space, a comma or the end"),
        ("tag=a rank~3", 10, "one of"),
        ("; DROP TABLE names", 0, "a field"),
    ],
)
def test_what_does_not_fit_is_shown_in_its_place(text: str, position: int, expected: str) -> None:
    """The error has the position and the expectation."""
    with pytest.raises(FilterInvalid) as caught:
        parse_filter(text)
    assert (position, True) == (caught.value.position, caught.value.expected.startswith(expected))


def test_the_caret_stands_under_the_place() -> None:
    """The message shows the text with a mark below the character that does not fit."""
    with pytest.raises(FilterInvalid) as caught:
        parse_filter("tag=legal rank=many")
    _, shown, mark = str(caught.value).splitlines()
    assert "m" == shown[mark.index("^")]


def test_a_hostile_kilobyte_stays_out_of_the_message() -> None:
    """A filter over the limit is refused before it is parsed, with a short message."""
    assert 1 == len(parse_filter("tag=" + "a" * 996))
    with pytest.raises(FilterInvalid, match="at most 1000 characters"):
        parse_filter("tag=" + "a" * 997)
    with pytest.raises(FilterInvalid, match="at most 1000 characters") as caught:
        parse_filter("tag=a " * 10_000)
    assert len(str(caught.value)) < 400


@given(st.text(max_size=60) | st.from_regex(rf"({'|'.join(FIELDS)}) ?[=<>!]+.*", fullmatch=True))
def test_any_text_is_a_filter_or_an_error_of_ours(text: str) -> None:
    """Only FilterInvalid is raised, and its position lies within the text."""
    position = 0
    try:
        parse_filter(text)
    except FilterInvalid as error:
        position = error.position
    assert 0 <= position <= len(text)


def test_so_many_conditions_fit() -> None:
    """Sixteen conditions are read; the seventeenth is an error with a caret at its place."""
    fits = " ".join(["tag!=law"] * 16)
    assert 16 == len(parse_filter(fits))
    with pytest.raises(FilterInvalid, match="at most 16 conditions") as caught:
        parse_filter(f"{fits} rank=1")
    assert len(fits) + 1 == caught.value.position
    assert str(caught.value).rstrip().endswith("^")


def test_so_many_values_fit() -> None:
    """All conditions together have at most 64 values."""
    fits = "tag=" + ",".join("a" * 63) + " rank=1"
    assert 2 == len(parse_filter(fits))
    with pytest.raises(FilterInvalid, match="at most 64 values") as caught:
        parse_filter(f"{fits},2")
    assert len(fits) + 1 == caught.value.position
