"""Scorers: who measures losses and answers on examples.

A scorer is a protocol: the one here runs a model in torch, another may query an engine. Each call
scores one candidate alone, so base and adapters never share a batch.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.scoring.answers import agrees, matches
from merge.adaptive.scoring.examples import Example
from merge.adaptive.scoring.generation import answers
from merge.adaptive.scoring.losses import Losses, measure_losses
from merge.adaptive.scoring.scored import Scored


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
