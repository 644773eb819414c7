"""Differences between two answers, word by word."""

from hypothesis import given
from hypothesis import strategies as st

from server.console.pages.compare.differences import Segment, differences


def test_words_that_the_other_lacks_are_marked() -> None:
    """What two answers share is not marked, and what one of them has alone is."""
    assert (
        Segment("The ", differs=False),
        Segment("old ", differs=True),
        Segment("cat", differs=False),
    ) == differences("The old cat", "The cat")


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_pieces_are_the_answer(answer: str, other: str) -> None:
    """Joined, the pieces are the answer; equal answers have no marked piece."""
    pieces = differences(answer, other)
    assert answer == "".join(piece.text for piece in pieces)
    assert not any(piece.differs for piece in differences(answer, answer))


def test_long_answers_differ_as_a_whole() -> None:
    """Answers too long to compare word by word are marked as a whole, and take no time."""
    long = "word " * 5000
    assert (Segment(long, differs=True),) == differences(long, long + "more")
