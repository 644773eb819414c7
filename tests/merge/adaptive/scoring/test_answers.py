"""Right answers: exact match as the recycling paper normalises it, and patterns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.adaptive.scoring.answers import agrees, matches, normalise, occurs


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
    """Neither case, nor spaces, nor a full stop at the end; only what follows the last ####."""
    assert counts == normalise(answer)


@settings(deadline=None)
@given(st.text(), st.sampled_from(["", " ", "\n"]), st.sampled_from(["", ".", " . ", "\n"]))
def test_an_answer_is_right_however_it_is_set(text: str, before: str, after: str) -> None:
    """An answer matches itself in other spaces and with a full stop."""
    assert matches(before + text + after, text)


def test_another_answer_is_wrong() -> None:
    """An answer that holds the right one is not the right one."""
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
    """What the pattern finds first must be the same in both, nothing included."""
    assert agree is agrees(r"\d+", answer, expected)


def test_a_group_is_what_is_compared() -> None:
    """With groups the first one counts, not what stands around it; one left out is nothing."""
    assert agrees(r"answer: (\w+)", "The answer: b!", "answer: b")
    assert not agrees(r"answer: (\w+)", "The answer: b!", "answer: c")
    assert agrees(r"x(\d)?", "x", "x")
    assert not agrees(r"x(\d)?", "x", "x1")


def test_whether_a_pattern_occurs() -> None:
    """A pattern occurs where it finds anything, the empty text included."""
    assert occurs(r"\d", "a1")
    assert occurs(r"\d*", "a")
    assert not occurs(r"\d", "a")
