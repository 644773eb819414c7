"""What a candidate is worth: losses and answers on examples, and the figures made of them.

A scorer is a protocol: the one here asks a model in torch, another may ask an engine. Each call
scores one candidate alone, so base and adapters never share a batch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

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
    right: tuple[bool, ...]  # exact match
    found: tuple[bool, ...] | None  # what the pattern says; None without one

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood per answer token, nats."""
        return sum(self.nll) / sum(self.tokens)

    @property
    def accuracy(self) -> float:
        """Share of answers that are right: by the pattern if there is one, else by exact match."""
        marks = self.right if self.found is None else self.found
        return sum(marks) / len(marks)


class Scorer(Protocol):
    """Says how well examples are answered."""

    def losses(self, updates: Updates | None, examples: Sequence[Example]) -> Losses:
        """Return the losses of the base with `updates`, or of the base alone."""
        ...

    def score(self, updates: Updates | None, examples: Sequence[Example]) -> Scored:
        """Return losses and marks of the base with `updates`, or of the base alone."""
        ...


class TorchScorer:
    """Scores in this process, on the model's device.

    Args:
        model: the frozen base.
        tokenizer: its tokenizer.
        pattern: a regular expression that is compared between answers, or None.
        longest_answer: tokens that are generated at most.
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
            said = answers(self._model, self._tokenizer, examples, longest=self._longest)
        return mark(losses, said, examples, self._pattern)


def mark(
    losses: Losses, said: Sequence[str], examples: Sequence[Example], pattern: str | None
) -> Scored:
    """Return answers marked against the examples'."""
    pairs = [(answer, each.answer) for answer, each in zip(said, examples, strict=True)]
    found = None if pattern is None else tuple(agrees(pattern, *pair) for pair in pairs)
    return Scored(losses.nll, losses.tokens, tuple(matches(*pair) for pair in pairs), found)


class Figures(NamedTuple):
    """What is told of a candidate, each with its bootstrap interval."""

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
        bootstrap(scored.right, seed=seed),
        None if scored.found is None else bootstrap(scored.found, seed=seed),
    )
