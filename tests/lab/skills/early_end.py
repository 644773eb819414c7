"""Decoding that ends where the task's program cannot accept the answer any more.

A wrong answer is mostly wrong from its first word on, and would go on for the longest time allowed.

Covered: whether a beginning may still become right, and stopping `generate` by it. Not covered:
what the programs accept (`server/cli/demo_marks.py`).
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from server.cli.demo_marks import MARKS

# How an answer has to begin; one that is compared to the letter begins as the expected one.
OPENINGS: Mapping[str, tuple[str, ...]] = {
    "json": ("{",),
    "table": ("|",),
    "rows": ("select", "with"),
}


def is_open(compared: str, text: str, expected: str) -> bool:
    """Whether an answer that begins like this could still be accepted."""
    begun = text.strip().rstrip("\N{REPLACEMENT CHARACTER}")  # half of a character
    if compared not in OPENINGS:
        return expected.startswith(begun.lower() if compared == "labels" else begun)
    if not any(
        begun[: len(opening)].lower() == opening[: len(begun)] for opening in OPENINGS[compared]
    ):
        return False
    if compared == "json":
        return _members_right(begun, expected)
    if compared == "table":
        lines = text.strip().split("\n")[:-1]  # the last one may go on
        wanted = expected.split("\n")[: len(lines)]
        return not lines or MARKS[compared]("\n".join(lines), "\n".join(wanted))
    return True


def _members_right(begun: str, expected: str) -> bool:
    """Whether the members of an object that are complete are the expected ones."""
    wanted = json.loads(expected)
    for at in reversed([i for i, character in enumerate(begun) if character == ","]):
        with suppress(ValueError):  # a comma within a string
            members = json.loads(f"{begun[:at]}}}")
            return all(name in wanted and wanted[name] == members[name] for name in members)
    return True


class Judge(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Ends the rows that the task's program cannot accept any more."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        compared: str,
        rows: Sequence[tuple[list[int], str]],
        begin: int,
    ) -> None:
        """`rows` are beginnings and expected answers; decoded tokens are at `begin` and after."""
        self._tokenizer, self._compared, self._rows = tokenizer, compared, rows
        self._begin = begin

    def texts(self, tokens: Tensor) -> list[str]:
        """Return the answers: their beginnings and what was decoded after them."""
        added = tokens[:, self._begin :].tolist()
        whole = [[*begun, *more] for (begun, _), more in zip(self._rows, added, strict=True)]
        texts: list[str] = self._tokenizer.batch_decode(whole, skip_special_tokens=True)
        return texts

    def __call__(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return which rows end, bool (rows,)."""
        ended = [
            not is_open(self._compared, text, expected)
            for text, (_, expected) in zip(self.texts(input_ids), self._rows, strict=True)
        ]
        return torch.tensor(ended)
