"""Who answers right, letter by letter and case by case, without decoding a token.

Greedy decoding writes the right answer exactly when each of its tokens, and then the end token, is
the likeliest one after the question and the right tokens before it: one pass decides. A job's own
scorer forgives case, which here is half of what a skill does.

Covered: a `Scorer` for jobs. Not covered: patterns; answers that are right but for white space.
"""

from collections.abc import Sequence
from typing import Any

import torch

from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.scoring.examples import IGNORED, Example, collate, pieces
from merge.adaptive.scoring.losses import Losses, answer_logits, answer_tokens, measure_losses
from merge.adaptive.scoring.scored import Scored

PASS_TOKENS = 1024  # padded, in a pass: what it needs still fits in a core's cache


class Examiner:
    """A job's scorer that marks by one pass instead of decoding."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def losses(self, updates: Updates | None, examples: Sequence[Example]) -> Losses:
        """See `Scorer`."""
        with attached(self._model, updates):
            return measure_losses(self._model, examples)

    def score(self, updates: Updates | None, examples: Sequence[Example]) -> Scored:
        """See `Scorer`."""
        with attached(self._model, updates):
            return examine(self._model, examples)


@torch.inference_mode()
def examine(model: Any, examples: Sequence[Example]) -> Scored:
    """Return losses and marks of the model as it is, in the examples' order."""
    nll, right = [0.0] * len(examples), [False] * len(examples)
    device = next(model.parameters()).device
    for group in pieces(examples, PASS_TOKENS):
        logits, targets = answer_logits(model, collate([examples[at] for at in group], device))
        asked = targets != IGNORED  # (n, places)
        chosen = logits.float().log_softmax(-1)
        surprise = -chosen.gather(-1, targets.clamp(min=0)[..., None])[..., 0] * asked
        wrong = (chosen.argmax(-1) != targets) & asked
        for row, at in enumerate(group):
            nll[at], right[at] = float(surprise[row].sum()), not bool(wrong[row].any())
    return Scored(tuple(nll), tuple(map(answer_tokens, examples)), tuple(right), None)
