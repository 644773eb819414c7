"""Passes through a base that compute what is common once: prompts' beginnings, unchanged layers.

The layers below the first one that any adapter changes give the same for every adapter, and all
prompts of a task begin with the template's system message.

Covered: a pass through some layers; a base for jobs that train and measure on the same examples
again and again. Not covered: marks (`merging/marks.py`, `tests/lab/adapting/scoring.py`).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, LlamaModel

from tests.lab.skills.train import common_length


class Hidden(NamedTuple):
    """Hidden states of prompts with answers: what all begin with, and the rest of each."""

    common: Tensor  # (1, common, width of the model)
    rest: Tensor  # (prompts, longest - common, width of the model)


class Output(NamedTuple):
    """What a pass of a base gives."""

    logits: Tensor  # (n, places, vocabulary)


class UpperLayers(nn.Module):
    """A base that shows only the layers with adapters, and computes what is below them once.

    It has the modules of these layers under their own names, so a LoRA on all of its linear modules
    is on those that the adapters are on. Hidden states below are kept for every example: a quarter
    of a megabyte each. Padding is on the right, where attention, which is causal, does not see it.
    """

    def __init__(self, base: LlamaForCausalLM, modules: Iterable[str]) -> None:
        """`modules` are the names of all modules that an adapter changes."""
        super().__init__()
        numbers = sorted({layer_of(name) for name in modules})
        self.first = numbers[0]
        self.model = nn.Module()
        self.model.layers = nn.ModuleDict({str(n): base.model.layers[n] for n in numbers})
        self._base = (base,)  # a tuple hides it: its other modules are not this one's
        self._lower: dict[tuple[int, ...], Tensor] = {}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: Tensor, **_: Any
    ) -> Output:
        """Return the logits at some places, as the base does."""
        (base,) = self._base
        common = min(common_length(input_ids), int(logits_to_keep[0]))
        rows = zip(input_ids.tolist(), attention_mask.sum(1).tolist(), strict=True)
        states = [self._below(tuple(tokens[:length])) for tokens, length in rows]
        rest = pad_sequence([state[common:] for state in states], batch_first=True)
        hidden = Hidden(states[0][None, :common], rest)
        last = run_layers(base.model, hidden, range(self.first, len(base.model.layers)))
        kept = last.rest[:, logits_to_keep - common]
        return Output(base.lm_head(base.model.norm(kept)))

    def _below(self, tokens: tuple[int, ...]) -> Tensor:
        """Return an example's hidden states where the first changed layer receives them."""
        if tokens not in self._lower:
            # Tensors of inference mode could not be trained on later.
            with torch.inference_mode(mode=False), torch.no_grad():
                self._lower[tokens] = self._computed_below(tokens)
        return self._lower[tokens]

    def _computed_below(self, tokens: tuple[int, ...]) -> Tensor:
        (base,) = self._base
        hidden: Tensor = base.model.embed_tokens(torch.tensor([tokens]))
        turns = base.model.rotary_emb(hidden, torch.arange(len(tokens))[None])
        for layer in base.model.layers[: self.first]:
            hidden = layer(hidden, position_embeddings=turns)
        return hidden[0]


def run_layers(model: LlamaModel, hidden: Hidden, layers: range) -> Hidden:
    """Return the hidden states after some consecutive layers."""
    common, rest = hidden
    size, width = common.shape[1], common.shape[1] + rest.shape[1]
    places = torch.arange(width)
    cos, sin = model.rotary_emb(rest, places[None])
    seen = (places[None] <= places[size:, None])[None, None]  # causal, over what all share, too
    for layer in model.layers[layers.start : layers.stop]:
        keys = _Keys()
        both = {"past_key_values": keys}
        common = layer(common, position_embeddings=(cos[:, :size], sin[:, :size]), **both)
        rest = layer(
            rest,
            attention_mask=seen,
            position_embeddings=(cos[:, size:], sin[:, size:]),
            **both,
        )
    return Hidden(common, rest)


def layer_of(module: str) -> int:
    """Return the layer of a module such as `model.layers.9.mlp.up_proj`; 0 outside of layers."""
    before, _, after = module.partition("layers.")
    return int(after.partition(".")[0]) if before != module else 0


class _Keys:
    """Keys and values of one layer: first of what all prompts share, then of the rest with it."""

    def __init__(self) -> None:
        self._common: tuple[Tensor, Tensor] | None = None

    def update(self, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        """Keep the first pair (1, heads, common, size); put it before each row of the second."""
        if self._common is None:
            self._common = keys, values
            return keys, values
        rows = len(keys)
        pairs = zip(self._common, (keys, values), strict=True)
        joined = [torch.cat([shared.expand(rows, -1, -1, -1), own], 2) for shared, own in pairs]
        return joined[0], joined[1]
