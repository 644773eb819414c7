"""Right answers at the lowest cost: what adapters do not reach is computed once.

The layers below the first one that any adapter changes give the same for every merge, and all
prompts of a task begin with the template's system message: both are computed once, the rest for
every merge. Greedy decoding writes the expected answer exactly where each of its tokens is the
likeliest one after those before it; one pass decides that. Other answers are decoded from their
first difference on, and only for as long as the task's program could still accept them.

Covered: marks of one task's prompts under the update that the base has at the time.
Not covered: which updates (`measure.py`); when an answer is beyond help (`early_end.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, StoppingCriteriaList

from tests.lab.skills.chat import IGNORED_LABEL, encode, make_batch
from tests.lab.skills.early_end import Judge, is_open
from tests.lab.skills.evaluate import TOKENS_MORE, Examiner
from tests.lab.skills.passes import Hidden, layer_of, run_layers
from tests.lab.skills.skill import Example, Skill
from tests.lab.skills.train import common_length


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Prompts of one task as the first changed layer receives them."""

    task: Skill
    examples: Sequence[Example]
    labels: Tensor  # (prompts, longest - common) int64: the token that follows, where one is asked
    hidden: Hidden


class Marks(NamedTuple):
    """What one pass says of a sheet."""

    likeliest: Tensor  # (prompts, longest - common) int64, where one is asked
    exact: list[bool]  # whether greedy decoding writes the expected answer
    nats: float  # of an answer's token, mean over prompts

    @property
    def share(self) -> float:
        """The share of answers that are the expected ones to the letter."""
        return sum(self.exact) / len(self.exact)


class Marker:
    """Marks sheets with the weights that the examiner's base has at the time."""

    def __init__(self, examiner: Examiner, modules: Iterable[str]) -> None:
        """`modules` are the names of all modules that any update will change."""
        self.examiner = examiner
        self.first = min(map(layer_of, modules))

    @torch.inference_mode()
    def sheet(self, task: Skill, examples: Sequence[Example]) -> Sheet:
        """Compute what no update changes; the base has its own weights."""
        batch = make_batch(self.examiner.tokenizer, list(examples))
        asked = (batch.labels != IGNORED_LABEL).any(0).long().argmax()
        common = min(common_length(batch.tokens), int(asked))
        model = self.examiner.lab.model.model
        parts = (batch.tokens[:1, :common], batch.tokens[:, common:])
        hidden = run_layers(model, Hidden(*map(model.embed_tokens, parts)), range(self.first))
        return Sheet(task, examples, batch.labels[:, common:], hidden)

    @torch.inference_mode()
    def marks(self, sheet: Sheet) -> Marks:
        """Return the marks of one pass."""
        model = self.examiner.lab.model
        last = run_layers(model.model, sheet.hidden, range(self.first, len(model.model.layers)))
        asked = sheet.labels != IGNORED_LABEL
        logits = model.lm_head(model.model.norm(last.rest[asked]))  # (tokens, vocabulary)
        likeliest = torch.full_like(sheet.labels, IGNORED_LABEL)
        likeliest[asked] = logits.argmax(-1)
        nats = torch.zeros(asked.shape)
        nats[asked] = cross_entropy(logits, sheet.labels[asked], reduction="none")
        exact = (likeliest == sheet.labels).all(1).tolist()
        return Marks(likeliest, exact, float((nats.sum(1) / asked.sum(1)).mean()))

    def right(self, sheet: Sheet) -> list[bool]:
        """Return which answers the task's program accepts."""
        marks = self.marks(sheet)
        begun = {
            row: self._begun(sheet.labels[row], marks.likeliest[row])
            for row, exact in enumerate(marks.exact)
            if not exact
        }
        texts = self._finished(sheet, begun)
        return [
            exact or sheet.task.right(texts[row], sheet.examples[row])
            for row, exact in enumerate(marks.exact)
        ]

    def _begun(self, labels: Tensor, likeliest: Tensor) -> list[int]:
        """Return the tokens of the expected answer up to the first other one, and that one."""
        asked = labels != IGNORED_LABEL
        wanted, chosen = labels[asked], likeliest[asked]
        differs = int((wanted != chosen).long().argmax())
        return [*wanted[:differs].tolist(), int(chosen[differs])]

    def _finished(self, sheet: Sheet, begun: Mapping[int, list[int]]) -> dict[int, str]:
        """Return each row's answer, or as much of it as says that it is wrong."""
        tokenizer, compared = self.examiner.tokenizer, sheet.task.compared
        texts = {
            row: tokenizer.decode(tokens, skip_special_tokens=True) for row, tokens in begun.items()
        }
        open_rows = [
            row
            for row, text in texts.items()
            if begun[row][-1] != tokenizer.eos_token_id
            and is_open(compared, text, sheet.examples[row].answer)
        ]
        if open_rows:
            beginnings = [(sheet.examples[row], begun[row]) for row in open_rows]
            texts |= zip(open_rows, self._decoded(beginnings, compared), strict=True)
        return texts

    @torch.inference_mode()
    def _decoded(self, rows: Sequence[tuple[Example, list[int]]], compared: str) -> list[str]:
        """Return the answers that begin with these tokens."""
        tokenizer = self.examiner.tokenizer
        asked = [encode(tokenizer, example) for example, _ in rows]
        prompts = [
            [*question, *begun] for (question, _), (_, begun) in zip(asked, rows, strict=True)
        ]
        batch = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        most = max(
            len(answer) - len(begun) for (_, answer), (_, begun) in zip(asked, rows, strict=True)
        )
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=max(most, 0) + TOKENS_MORE,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        expected = [(begun, example.answer) for example, begun in rows]
        judge = Judge(tokenizer, compared, expected, batch["input_ids"].shape[1])
        tokens = self.examiner.lab.model.generate(
            **batch, generation_config=greedy, stopping_criteria=StoppingCriteriaList([judge])
        )
        return judge.texts(tokens)
