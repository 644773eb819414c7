"""Blind votes: answers under letters in an order that chance gives, and the tally of the votes.

Covered: the order, the votes, their tally and what of it an evaluation says. Not covered: storing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Self

from numpy.random import default_rng

METRIC = "share of blind votes"
_MAX_DATASET = 200


def shuffled(columns: int, seed: int | None) -> tuple[int, ...]:
    """Return the columns' numbers in the order that a seed gives; None keeps their order."""
    if seed is None:
        return tuple(range(columns))
    return tuple(int(column) for column in default_rng(seed).permutation(columns))


def letter(place: int) -> str:
    """Return the name of an answer while the vote is blind."""
    return ascii_uppercase[place]


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes on the columns of a comparison; a tie is a vote for none of them."""

    models: tuple[str, ...]
    wins: tuple[int, ...] = ()
    ties: int = 0

    def __post_init__(self) -> None:
        if not self.wins:
            object.__setattr__(self, "wins", (0,) * len(self.models))

    @property
    def votes(self) -> int:
        """The number of votes, ties included."""
        return sum(self.wins) + self.ties

    def vote(self, column: int | None) -> Self:
        """Return the tally with a vote for a column; None is a tie."""
        wins = tuple(won + (place == column) for place, won in enumerate(self.wins))
        return type(self)(self.models, wins, self.ties + (column is None))

    def share(self, column: int) -> float:
        """Return the share of the votes that a column won; 0 before the first."""
        return self.wins[column] / self.votes if self.votes else 0.0

    def dataset(self, column: int) -> str:
        """Return what an evaluation of a column was measured against."""
        others = [model for place, model in enumerate(self.models) if place != column]
        text = f"blind votes against {', '.join(others)}"
        return text if len(text) <= _MAX_DATASET else f"{text[: _MAX_DATASET - 1]}…"

    @property
    def text(self) -> str:
        """The votes as the page's address has them: wins by column, then ties."""
        return ".".join(map(str, (*self.wins, self.ties)))


def read_tally(models: Sequence[str], text: str) -> Tally:
    """Return the tally that an address has; without votes if it is not one of these columns."""
    parts = text.split(".")
    if len(parts) != len(models) + 1 or not all(p.isascii() and p.isdigit() for p in parts):
        return Tally(tuple(models))
    *wins, ties = (int(part[:6]) for part in parts)
    return Tally(tuple(models), tuple(wins), ties)
