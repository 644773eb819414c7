"""Blind votes: their order, their tally, and what of it is stored."""

from collections import Counter

from server.console.pages.compare.ballot import Tally, read_tally, shuffled

MODELS = ("base", "legal@1", "mix@2")


def test_every_answer_stands_everywhere_equally_often() -> None:
    """Chance decides the order: over many seeds each column is first about as often."""
    first = Counter(shuffled(3, seed)[0] for seed in range(600))
    assert all(150 < count < 250 for count in first.values())
    assert {0, 1, 2} == set(shuffled(3, 7))


def test_votes_and_ties_count() -> None:
    """A column's share is its votes by all votes; a tie is a vote that no column won."""
    tally = Tally(MODELS).vote(2).vote(2).vote(0).vote(None)
    assert (4, 1, (1, 0, 2)) == (tally.votes, tally.ties, tally.wins)
    assert [0.25, 0.0, 0.5] == [tally.share(column) for column in range(3)]
    assert 0.0 == Tally(MODELS).share(0)


def test_an_address_keeps_the_votes() -> None:
    """The votes in an address are read back, unless they are of other columns or no numbers."""
    tally = Tally(MODELS).vote(2).vote(None)
    assert tally == read_tally(MODELS, tally.text)
    for text in ("", "1.2", "1.2.3.4.5", "1.2.3.x", "1.2.3.٤"):
        assert Tally(MODELS) == read_tally(MODELS, text)


def test_an_evaluation_says_against_what() -> None:
    """The data set of an evaluation names the other columns, within what the registry takes."""
    assert "blind votes against base, mix@2" == Tally(MODELS).dataset(1)
    assert 200 == len(Tally(("a", "b" * 300)).dataset(0))
