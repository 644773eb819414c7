"""Who answers right, letter by letter and case by case, without decoding a token.

Greedy decoding writes the right answer exactly when each of its tokens, and then the end token, is
the likeliest one after the question and the right tokens before it: one pass decides. A job's own
scorer forgives case, which here is half of what a skill does.

Covered: a `Scorer` for desks whose candidates are examined on prompts that no context sees.
Not covered: patterns; answers that are right but for white space.
"""

from collections.abc import Sequence
from typing import Any

import torch

from merge.adaptive.model.hooks import Updates, attached
from merge.adaptive.scoring.examples import IGNORED, Example, collate, pieces
from merge.adaptive.scoring.losses import Losses, answer_tokens, measure_losses
from merge.adaptive.scoring.scorer import Scored
from tests.lab.adapting.tasks import Split

PASS_TOKENS = 1024  # padded, in a pass: what it needs still fits in a core's cache


class Examiner:
    """A job's scorer that examines candidates on held-out prompts.

    A job scores a finished candidate on its validation examples, which its training has looked at
    to choose a step. Asked for those, this scores the held-out prompts instead; asked for any other
    examples, those.
    """

    def __init__(self, model: Any, split: Split) -> None:
        self._model, self._split = model, split

    def losses(self, updates: Updates | None, examples: Sequence[Example]) -> Losses:
        """Return the losses on the examples themselves, the validation examples included."""
        with attached(self._model, updates):
            return measure_losses(self._model, examples)

    def score(self, updates: Updates | None, examples: Sequence[Example]) -> Scored:
        """Return losses and marks; on held-out prompts in the place of validation examples."""
        asked = self._split.tests if examples is self._split.validation else examples
        with attached(self._model, updates):
            return examine(self._model, asked)


@torch.inference_mode()
def examine(model: Any, examples: Sequence[Example]) -> Scored:
    """Return losses and marks of the model as it is, in the examples' order."""
    nll, right = [0.0] * len(examples), [False] * len(examples)
    device = next(model.parameters()).device
    for group in pieces(examples, PASS_TOKENS):
        batch = collate([examples[at] for at in group], device)
        logits = model(input_ids=batch.tokens, attention_mask=batch.mask, use_cache=False).logits
        targets = batch.labels[:, 1:]  # (n, width - 1)
        asked = targets != IGNORED
        chosen = logits[:, :-1].float().log_softmax(-1)
        surprise = -chosen.gather(-1, targets.clamp(min=0)[..., None])[..., 0] * asked
        wrong = (chosen.argmax(-1) != targets) & asked
        for row, at in enumerate(group):
            nll[at], right[at] = float(surprise[row].sum()), not bool(wrong[row].any())
    return Scored(tuple(nll), tuple(map(answer_tokens, examples)), tuple(right), None)
