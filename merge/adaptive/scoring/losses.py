"""Losses: negative log-likelihoods of the expected answers, in nats.

Covered: the training loss, and the same per example without gradients.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from merge.adaptive.model.memory import PASS_TOKENS
from merge.adaptive.scoring.examples import IGNORED, Batch, Example, collate, pieces

# The loss per token that stands for NaN and infinity: above every real loss, and still a number
# that can be ranked, averaged and written as JSON.
WORST = 1e6


class Losses(NamedTuple):
    """Per example: the answer tokens' summed negative log-likelihood, and how many there are."""

    nll: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The mean over all answer tokens: what training minimises."""
        return sum(self.nll) / sum(self.tokens)


def nll(model: Any, batch: Batch) -> Tensor:
    """Return (n,) float32: each example's summed negative log-likelihood of its answer tokens."""
    logits, targets = answer_logits(model, batch)
    # In float32 whatever the base's dtype: bfloat16 keeps two digits of a sum over 128k logits.
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1),
        targets.flatten(),
        ignore_index=IGNORED,
        reduction="none",
    )
    return losses.view(targets.shape).sum(dim=1)


def answer_logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return (n, w, vocabulary) logits and the (n, w) tokens that they should give.

    The w places are those before a token of any answer; where a row has none there, its token is
    IGNORED. Questions are most of a batch, and no loss needs their logits.
    """
    targets = batch.labels[:, 1:]
    places = (targets != IGNORED).any(0).nonzero()[:, 0]
    logits = model(
        input_ids=batch.tokens, attention_mask=batch.mask, use_cache=False, logits_to_keep=places
    ).logits
    return logits, targets[:, places]


def answer_tokens(example: Example) -> int:
    """Return the number of an example's tokens that the loss counts."""
    return sum(label != IGNORED for label in example.labels[1:])


@torch.inference_mode()
def measure_losses(model: Any, examples: Sequence[Example]) -> Losses:
    """Return the losses of `examples`, in their order; one that is not finite is `WORST`."""
    sums = [0.0] * len(examples)
    device = next(model.parameters()).device
    for group in pieces(examples, PASS_TOKENS):
        values = nll(model, collate([examples[at] for at in group], device))
        for at, value in zip(group, values.tolist(), strict=True):
            worst = WORST * answer_tokens(examples[at])
            sums[at] = value if math.isfinite(value) else worst
    return Losses(tuple(sums), tuple(map(answer_tokens, examples)))
