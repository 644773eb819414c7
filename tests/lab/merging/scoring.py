"""Who answers right: a model's answers to many prompts in one pass, without decoding a token.

Greedy decoding writes the right answer exactly when each of its tokens, and then the end token, is
the likeliest one after the question and the right tokens before it. So one forward pass over
question and answer decides, at the cost of reading rather than of writing.

Covered: the base in float32 with any update added to its weights.
Not covered: answers that are right but for white space around them, which `exact_match` forgives.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from merge.factors import Factors
from tests.lab.batches import IGNORED_LABEL, pad_right
from tests.lab.evaluate import load_base
from tests.lab.language import Example
from tests.lab.tokenizer import build_tokenizer, encode_examples

PIECE = 32  # prompts in a pass: what they need still fits in a core's cache

Updates = Mapping[str, Tensor]  # module's name -> dense update (d_out, d_in), float32


@dataclass(frozen=True, slots=True)
class Exam:
    """Prompts of several tasks, as tokens, in pieces of similar length."""

    tasks: tuple[str, ...]
    owners: Tensor  # (prompts,) int64: each prompt's task, by position
    pieces: tuple[tuple[Tensor, Tensor], ...]  # tokens and labels, each (≤ PIECE, width)

    @staticmethod
    def of(examples: Mapping[str, Sequence[Example]]) -> "Exam":
        """Return the exam that asks these examples of each task."""
        tasks = tuple(examples)
        owners = [i for i, task in enumerate(tasks) for _ in examples[task]]
        pairs = encode_examples(
            build_tokenizer(), [example for task in tasks for example in examples[task]]
        )
        order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))
        pieces = tuple(
            pad_right([pairs[i] for i in order[at : at + PIECE]])
            for at in range(0, len(order), PIECE)
        )
        return Exam(tasks, torch.tensor([owners[i] for i in order]), pieces)


class Lab:
    """The base with room for one update at a time."""

    def __init__(self, base: Path) -> None:
        self.model = load_base(base)
        self._plain = {
            name: module.weight.detach().clone()
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear)
        }

    @contextmanager
    def updated(self, updates: Updates, scale: float) -> Iterator[None]:
        """Add scale · update to the weights for as long as the block runs."""
        weights = {name: self.model.get_submodule(name).weight for name in updates}
        with torch.no_grad():
            for name, weight in weights.items():
                torch.add(self._plain[name], updates[name], alpha=scale, out=weight.data)
        try:
            yield
        finally:
            for name, weight in weights.items():
                weight.data.copy_(self._plain[name])

    def marks(self, exam: Exam, updates: Updates, scale: float) -> dict[str, float]:
        """Return the share of right answers by task, with scale · update added to the base."""
        with self.updated(updates, scale):
            right = torch.cat([_right(self.model, *piece) for piece in exam.pieces])
        return {
            task: float(right[exam.owners == i].double().mean())
            for i, task in enumerate(exam.tasks)
        }


def dense(modules: Mapping[str, Factors]) -> dict[str, Tensor]:
    """Return each module's update scale · b a, (d_out, d_in) float32."""
    return {name: f.scale * (f.b @ f.a) for name, f in modules.items()}


@torch.inference_mode()
def _right(model: LlamaForCausalLM, tokens: Tensor, labels: Tensor) -> Tensor:
    """Return which rows (rows,) greedy decoding would answer right."""
    hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    asked = labels[:, 1:] != IGNORED_LABEL  # (rows, width - 1)
    likeliest = model.lm_head(hidden[asked]).argmax(-1)  # (answer tokens,)
    wrong = torch.zeros(asked.shape, dtype=torch.bool)
    wrong[asked] = likeliest != labels[:, 1:][asked]
    return ~wrong.any(1)
