"""Scores of a candidate: losses and answers on examples, and figures computed from them.

A scorer is a protocol: the one here runs a model in torch, another may query an engine. Each call
scores one candidate alone, so base and adapters never share a batch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.scoring.answers import agrees, matches
from merge.adaptive.scoring.bootstrap import Interval, bootstrap
from merge.adaptive.scoring.examples import Example
from merge.adaptive.scoring.generation import answers
from merge.adaptive.scoring.losses import Losses, measure_losses


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


class Scorer(Protocol):
    """Scores the base, with or without updates, on examples."""

    def losses(self, updates: Updates | None, examples: Sequence[Example]) -> Losses:
        """Return the losses of the base with `updates`, or of the base alone."""
        ...

    def score(self, updates: Updates | None, examples: Sequence[Example]) -> Scored:
        """Return losses and matches of the base with `updates`, or of the base alone."""
        ...


class TorchScorer:
    """Scores in this process, on the model's device.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        pattern: a regular expression whose matches are compared between answers, or None.
        longest_answer: the largest number of generated tokens.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, pattern: str | None, longest_answer: int
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._pattern, self._longest = pattern, longest_answer

    def losses(self, updates: Updates | None, examples: Sequence[Example]) -> Losses:
        """See `Scorer`."""
        with attached(self._model, updates):
            return measure_losses(self._model, examples)

    def score(self, updates: Updates | None, examples: Sequence[Example]) -> Scored:
        """See `Scorer`."""
        with attached(self._model, updates):
            losses = measure_losses(self._model, examples)
            texts = answers(self._model, self._tokenizer, examples, longest=self._longest)
        return compare_answers(losses, texts, examples, self._pattern)


def compare_answers(
    losses: Losses, texts: Sequence[str], examples: Sequence[Example], pattern: str | None
) -> Scored:
    """Return the scores of generated `texts`, (n,), against the examples' own answers, (n,)."""
    pairs = [(text, example.answer) for text, example in zip(texts, examples, strict=True)]
    return Scored(
        nll=losses.nll,
        tokens=losses.tokens,
        exact_match=tuple(matches(*pair) for pair in pairs),
        pattern_match=None if pattern is None else tuple(agrees(pattern, *pair) for pair in pairs),
    )


class Figures(NamedTuple):
    """The reported figures of a candidate, each with its bootstrap interval."""

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
        bootstrap(scored.exact_match, seed=seed),
        None if scored.pattern_match is None else bootstrap(scored.pattern_match, seed=seed),
    )
