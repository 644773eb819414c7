"""What an adapter does to its base's next-token probabilities on the fixed prompts.

The update is applied by forward hooks beside the base's own layers, in float32, so that one copy of
the base serves every adapter and is never changed. Not covered: generation, and whether what the
adapter does is any good. Runs inside the probe's own process (`server.probe.run`).
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

# Tokens per prompt in a signature: those that the base alone finds most probable.
TOKENS_PER_PROMPT = 32


@dataclass(frozen=True, slots=True)
class Measured:
    """One adapter on its base.

    Attributes:
        effect: mean over all positions of all prompts of KL(base ‖ adapter), in nats; None when
            the logits are not finite.
        signature: (prompts · tokens,) float32, the log-probability that the adapter gives minus
            the base's, at the end of each prompt, for the tokens that the base finds most probable
            there; None when the logits are not finite.
    """

    effect: float | None
    signature: NDArray[np.float32] | None


class Probe:
    """A base with the fixed prompts, run once without an adapter.

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
        # Padding stands at the end, where no token before it looks.
        self._ids = torch.zeros(len(ids), width, dtype=torch.long)
        self._mask = torch.zeros(len(ids), width, dtype=torch.bool)
        for row, one in enumerate(ids):
            self._ids[row, : len(one)] = torch.tensor(one)
            self._mask[row, : len(one)] = True
        self._ids, self._mask = self._ids.to(device), self._mask.to(device)
        self._last = self._mask.sum(dim=1) - 1
        self._base = self._log_probabilities()
        count = min(TOKENS_PER_PROMPT, self._base.shape[-1])
        if not bool(self._base[self._mask].isfinite().all()):
            raise ValueError("the base's own logits are not finite")
        ends = self._at_ends(self._base)
        # A stable sort: equal probabilities keep the vocabulary's order.
        self._tokens = ends.sort(dim=-1, descending=True, stable=True).indices[:, :count]

    def measure(self, path: Path) -> Measured:
        """Try the adapter in folder `path`.

        Raises:
            FormatError: it is no adapter.
            AttributeError: the base has no module of a name.
        """
        updates = updates_of(open_folder(path)).to(next(self._model.parameters()).device)
        with attached(self._model, updates):
            found = self._log_probabilities()
        if not bool(found[self._mask].isfinite().all()):
            return Measured(effect=None, signature=None)
        base = self._base[self._mask].double()  # (positions, vocabulary)
        kl = (base.exp() * (base - found[self._mask].double())).sum(dim=-1)
        shift = self._at_ends(found) - self._at_ends(self._base)
        signature = shift.gather(1, self._tokens).flatten().cpu().numpy().astype(np.float32)
        return Measured(effect=max(0.0, float(kl.mean())), signature=signature)

    @torch.inference_mode()
    def _log_probabilities(self) -> Tensor:
        """Return (prompts, positions, vocabulary) float32 log-probabilities of the next token."""
        logits = self._model(self._ids, attention_mask=self._mask.long()).logits
        return torch.log_softmax(logits.float(), dim=-1)

    def _at_ends(self, x: Tensor) -> Tensor:
        """Return (prompts, vocabulary) of (prompts, positions, vocabulary): each prompt's end."""
        return x[torch.arange(len(x), device=x.device), self._last]
