"""Measures how an adapter changes its base's next-token probabilities on the fixed prompts.

Forward hooks add the update beside the base's own layers, in float32: one copy of the base serves
every adapter, its weights never change, and no rounding of a merge is measured. Not covered:
generation, and quality. Runs inside the probe's child process (`server.probe.run`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from merge.adaptive.model.hooks import attached
from merge.adaptive.model.stacked import updates_of
from merge.peft_format import open_folder
from server.probe.prompts import PROMPTS

# Tokens per prompt in a signature. Chosen by the base alone, so that the same places of all
# signatures of a base are comparable.
TOKENS_PER_PROMPT = 32


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of one adapter on its base.

    Attributes:
        effect: mean over all positions of all prompts of KL(base ‖ adapter), in nats; None when
            the logits are not finite.
        signature: (prompts · tokens,) float32, the log-probability that the adapter gives minus
            the base's, at the end of each prompt, for the tokens that are most probable there
            under the base; None when the logits are not finite.
    """

    effect: float | None
    signature: NDArray[np.float32] | None


class Probe:
    """A base and its probabilities on the fixed prompts, without an adapter.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        tokenizer: its tokenizer.

    Raises:
        ValueError: the base's own logits are not finite.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        ids = [tokenizer(text)["input_ids"] for text in PROMPTS]
        width = max(map(len, ids))
        device = next(model.parameters()).device
        # Padding is at the end: attention is causal, so no token of a prompt sees it.
        self._ids = torch.zeros(len(ids), width, dtype=torch.long)
        self._mask = torch.zeros(len(ids), width, dtype=torch.bool)
        for row, tokens in enumerate(ids):
            self._ids[row, : len(tokens)] = torch.tensor(tokens)
            self._mask[row, : len(tokens)] = True
        self._ids, self._mask = self._ids.to(device), self._mask.to(device)
        self._last = self._mask.sum(dim=1) - 1
        self._base = self._log_probabilities()
        count = min(TOKENS_PER_PROMPT, self._base.shape[-1])
        if not bool(self._base[self._mask].isfinite().all()):
            raise ValueError("the base's own logits are not finite")
        ends = self._at_ends(self._base)
        # A stable sort, not topk: tokens of equal probability must come in one order on every
        # machine, or signatures of the same adapter would differ.
        self._tokens = ends.sort(dim=-1, descending=True, stable=True).indices[:, :count]

    def measure(self, path: Path) -> Measured:
        """Measure the adapter in folder `path`.

        Raises:
            FormatError: the folder is not an adapter.
            AttributeError: the adapter names a module that the base does not have.
        """
        updates = updates_of(open_folder(path)).to(next(self._model.parameters()).device)
        with attached(self._model, updates):
            adapted = self._log_probabilities()
        if not bool(adapted[self._mask].isfinite().all()):
            return Measured(effect=None, signature=None)
        # float64: each term is a difference of nearly equal numbers, and in a float32 sum over a
        # vocabulary of 128,000 the effect of a weak adapter could drown in rounding.
        base = self._base[self._mask].double()  # (positions, vocabulary)
        kl = (base.exp() * (base - adapted[self._mask].double())).sum(dim=-1)
        shift = self._at_ends(adapted) - self._at_ends(self._base)
        signature = shift.gather(1, self._tokens).flatten().cpu().numpy().astype(np.float32)
        # KL is never negative; rounding can make the sum so.
        return Measured(effect=max(0.0, float(kl.mean())), signature=signature)

    @torch.inference_mode()
    def _log_probabilities(self) -> Tensor:
        """Return (prompts, positions, vocabulary) float32 log-probabilities of the next token."""
        logits = self._model(self._ids, attention_mask=self._mask.long()).logits
        # log_softmax in float32: in bfloat16 a probability has two or three digits.
        return torch.log_softmax(logits.float(), dim=-1)

    def _at_ends(self, x: Tensor) -> Tensor:
        """Return x at the last token of each prompt: (prompts, positions, d) to (prompts, d)."""
        return x[torch.arange(len(x), device=x.device), self._last]
