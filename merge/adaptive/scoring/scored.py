"""Scores of a candidate on examples, and the figures of a report.

Not covered: who measures them (`scorer`), and comparing two candidates (`paired`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from merge.adaptive.scoring.bootstrap import Interval, bootstrap, share


class Scored(NamedTuple):
    """One candidate on some examples, example by example and in their order."""

    nll: tuple[float, ...]  # summed over the answer's tokens, nats
    tokens: tuple[int, ...]  # of the answer
    exact_match: tuple[bool, ...]  # the answer equals the expected one, normalised
    pattern_match: tuple[bool, ...] | None  # the pattern finds the same in both; None without one

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood per answer token, nats."""
        return sum(self.nll) / sum(self.tokens)

    @property
    def accuracy(self) -> float:
        """Share of correct answers: by the pattern if there is one, else by exact match."""
        matches = self.exact_match if self.pattern_match is None else self.pattern_match
        return sum(matches) / len(matches)

    def only(self, rows: Sequence[int]) -> Self:
        """Return the scores of some examples, in the order of `rows`."""
        pattern_match = self.pattern_match
        return self._replace(
            nll=tuple(self.nll[row] for row in rows),
            tokens=tuple(self.tokens[row] for row in rows),
            exact_match=tuple(self.exact_match[row] for row in rows),
            pattern_match=pattern_match and tuple(pattern_match[row] for row in rows),
        )

    def then(self, other: Self) -> Self:
        """Return these scores followed by those of other examples."""
        ours, theirs = self.pattern_match, other.pattern_match
        return self._replace(
            nll=self.nll + other.nll,
            tokens=self.tokens + other.tokens,
            exact_match=self.exact_match + other.exact_match,
            pattern_match=None if ours is None or theirs is None else ours + theirs,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON values, under the names that job folders have had so far."""
        return {
            "nll": self.nll, "tokens": self.tokens,
            "right": self.exact_match, "found": self.pattern_match,
        }  # fmt: skip

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Return the scores that `to_json` wrote."""
        pattern_match = raw["found"]
        return cls(
            nll=tuple(raw["nll"]),
            tokens=tuple(raw["tokens"]),
            exact_match=tuple(raw["right"]),
            pattern_match=None if pattern_match is None else tuple(pattern_match),
        )


class Figures(NamedTuple):
    """The reported figures of a candidate, each with its 95 % interval."""

    loss: Interval
    exact_match: Interval
    pattern: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            name: None if interval is None else interval._asdict()
            for name, interval in self._asdict().items()
        }


def figures(scored: Scored, *, seed: int) -> Figures:
    """Return the figures of a candidate's scores."""
    return Figures(
        bootstrap(scored.nll, weights=scored.tokens, seed=seed),
        share(scored.exact_match),
        None if scored.pattern_match is None else share(scored.pattern_match),
    )
