"""How often the stored adapters, and merges of them, answer right by each skill's own program.

Covered: greedy answers in float32, marking them, weft's merges at several scales.
Not covered: which merges are measured (`compose.py`); the same through vLLM.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from merge.peft_format import digest_folder, open_folder
from merge.recipe import Member, plan
from merge.run import merge
from server.cli.demo_base import BASE_NAME
from tests.lab.merging.adapters import read_update
from tests.lab.merging.scoring import Lab
from tests.lab.skills.chat import IGNORED_LABEL, make_batch, question_text
from tests.lab.skills.skill import Example, Skill

PIECE = 10  # prompts in a pass
TOKENS_MORE = 16  # than the longest right answer: an answer that goes on for longer is wrong


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and whether it is right."""

    text: str
    right: bool


class Examiner:
    """The base with room for one update, and its tokenizer."""

    def __init__(self, base: Path) -> None:
        self.lab = Lab(base)
        self.lab.model.eval()
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            base, padding_side="left"
        )

    def answers(
        self, updates: Mapping[str, Tensor], scale: float, skill: Skill, examples: Sequence[Example]
    ) -> list[Answer]:
        """The greedy answer to each example, with scale · update added to the base.

        Where every token of the expected answer is the likeliest one, greedy decoding writes it:
        one pass decides that, and the others are decoded.
        """
        with self.lab.updated(updates, scale):
            exact = self._exact(examples)
            others = [example for example, right in zip(examples, exact, strict=True) if not right]
            decoded = iter(self._decoded(others) if others else [])
        return [
            Answer(example.answer, True)
            if right
            else Answer(text := next(decoded), skill.right(text, example))
            for example, right in zip(examples, exact, strict=True)
        ]

    @torch.inference_mode()
    def _exact(self, examples: Sequence[Example]) -> list[bool]:
        marks: list[bool] = []
        for at in range(0, len(examples), PIECE):
            batch = make_batch(self.tokenizer, list(examples[at : at + PIECE]))
            hidden = self.lab.model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state
            asked = batch.labels != IGNORED_LABEL
            wrong = torch.zeros(asked.shape, dtype=torch.bool)
            wrong[asked] = self.lab.model.lm_head(hidden[asked]).argmax(-1) != batch.labels[asked]
            marks += (~wrong.any(1)).tolist()
        return marks

    @torch.inference_mode()
    def _decoded(self, examples: Sequence[Example]) -> list[str]:
        answers = self.tokenizer([example.answer for example in examples], add_special_tokens=False)
        longest = max(map(len, answers["input_ids"]), default=0)
        greedy = GenerationConfig(
            do_sample=False,
            max_new_tokens=longest + TOKENS_MORE,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        texts: list[str] = []
        for at in range(0, len(examples), PIECE):
            prompts = [
                question_text(self.tokenizer, example.prompt)
                for example in examples[at : at + PIECE]
            ]
            batch = self.tokenizer(
                prompts, padding=True, return_tensors="pt", add_special_tokens=False
            )
            tokens = self.lab.model.generate(**batch, generation_config=greedy)
            new = tokens[:, batch["input_ids"].shape[1] :]
            texts += self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts


def merged_update(
    method: str, folders: Sequence[Path], options: Mapping[str, object]
) -> dict[str, Tensor]:
    """The dense updates of weft's merge of these adapters, all with weight 1."""
    members = {
        folder: Member.from_folder(folder.name, open_folder(folder), 1.0, digest_folder(folder))
        for folder in folders
    }
    recipe = plan(
        method,
        list(members.values()),
        options=options,
        base=BASE_NAME,
        dtype="bfloat16",
        rank_limit=None,
    )
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "merged"
        merge(recipe, {member.digest: folder for folder, member in members.items()}, out)
        return read_update(out)
