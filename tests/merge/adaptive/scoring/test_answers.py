"""Correct answers: exact match with the recycling paper's normalisation, and patterns."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.adaptive.patterns import PatternInvalid, compiled
from merge.adaptive.scoring.answers import agrees, matches, normalise, occurs
from tests.growth import LINEAR, cpu_seconds, growth


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("Yes.", "yes"),
        (" New  York\n", "newyork"),
        ("so 3 + 4 = 7\n#### 7", "7"),
        ("#### 1 #### 2.", "2"),
        ("1.5.", "1.5"),
        ("wait...", "wait"),
        ("", ""),
        ("...", ""),
    ],
)
def test_what_counts_of_an_answer(answer: str, counts: str) -> None:
    """Normalising drops case, spaces, a final full stop and all text up to the last ####."""
    assert counts == normalise(answer)


@settings(deadline=None)
@given(st.text(), st.sampled_from(["", " ", "\n"]), st.sampled_from(["", ".", " . ", "\n"]))
def test_an_answer_is_right_however_it_is_set(text: str, before: str, after: str) -> None:
    """An answer matches itself with other surrounding spaces and with a full stop."""
    assert matches(before + text + after, text)


def test_another_answer_is_wrong() -> None:
    """An answer that only contains the expected answer does not match it."""
    assert not matches("not positive", "positive")
    assert not matches("", "positive")


@pytest.mark.parametrize(
    ("answer", "expected", "agree"),
    [
        ("it is 7, I think", "7", True),
        ("it is 8, I think", "7", False),
        ("no number", "7", False),
        ("7", "no number", False),
        ("no number", "none either", True),
    ],
)
def test_a_pattern_compares_what_it_finds(answer: str, expected: str, agree: bool) -> None:
    """The pattern's first match must be the same in both texts; no match in either also agrees."""
    assert agree is agrees(r"\d+", answer, expected)


def test_a_group_is_what_is_compared() -> None:
    """A pattern with groups compares its first group only; a group that took no part is empty."""
    assert agrees(r"answer: (\w+)", "The answer: b!", "answer: b")
    assert not agrees(r"answer: (\w+)", "The answer: b!", "answer: c")
    assert agrees(r"x(\d)?", "x", "x")
    assert not agrees(r"x(\d)?", "x", "x1")


def test_whether_a_pattern_occurs() -> None:
    """A pattern occurs in a text if it matches anywhere, even the empty string."""
    assert occurs(r"\d", "a1")
    assert occurs(r"\d*", "a")
    assert not occurs(r"\d", "a")


def test_no_pattern_holds_a_job_up() -> None:
    """A pattern that a backtracking engine never finishes takes as long as the text is."""
    assert growth(lambda n: lambda: occurs(r"(a+)+$", "a" * n + "!"), 100_000) < LINEAR
    pattern = r"(?:(?:a|aa)*b)*c"
    assert growth(lambda n: lambda: agrees(pattern, "a" * n, "none"), 100_000) < LINEAR


@pytest.mark.parametrize("pattern", [r"(?i)[\x01-\uffff]" * 55, r"\pL{900}" * 100, "(" * 999])
def test_no_pattern_takes_long_to_compile(pattern: str) -> None:
    """Compiling a pattern of a thousand characters takes a tenth of a second at most."""

    def run() -> None:
        with suppress(PatternInvalid):
            compiled(pattern)

    assert min(cpu_seconds(run) for _ in range(3)) < 0.2


def test_half_a_surrogate_pair_is_a_character_like_others() -> None:
    """A text that is not valid Unicode is searched; a pattern that is not is refused."""
    assert occurs("a", "\ud800a")
    with pytest.raises(PatternInvalid, match="surrogate"):
        compiled("\ud800")
