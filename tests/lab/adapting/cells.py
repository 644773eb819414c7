"""Cells: one way to learn one task from some examples, examined.

Covered: the value, its line. Not covered: the file of them (`tests/lab/cell_file.py`), which cells
there should be (`design.py`), measuring them (`measure.py`).
"""

import json
from dataclasses import asdict, dataclass

from merge.adaptive.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate on the held-out prompts of its task."""

    key: str  # of everything that decides the numbers
    arm: str
    task: str
    seed: int
    examples: int
    marks: str  # one of 0 and 1 for each prompt: whether it is answered right
    loss: float  # nats per answer token
    folded_marks: str | None  # the same of the files that would be served
    folded_loss: float | None
    energy: float | None  # of the fold, where it is not exact
    best_step: int | None
    members: tuple[str, ...]
    seconds: float  # of CPU

    @property
    def accuracy(self) -> float:
        """The share of prompts answered right."""
        return _share(self.marks)

    @property
    def folded_accuracy(self) -> float | None:
        """The same of the files that would be served."""
        return None if self.folded_marks is None else _share(self.folded_marks)

    @staticmethod
    def of(
        key: str, arm: str, place: tuple[str, int, int], made: Candidate, seconds: float
    ) -> "Cell":
        """Return the cell of a candidate; `place` is task, seed, examples."""
        folded = made.folded
        return Cell(
            key, arm, *place, _marks(made.scored.exact_match), round(made.scored.loss, 5),
            None if folded is None else _marks(folded.exact_match),
            None if folded is None else round(folded.loss, 5),
            None if made.energy is None else round(made.energy, 5),
            made.best_step, made.members, round(seconds, 2),
        )  # fmt: skip

    def to_line(self) -> str:
        """The cell as JSON without a line break."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_line(line: str) -> "Cell":
        """The cell of a line; raises ValueError for a line that was cut off."""
        fields = json.loads(line)
        return Cell(**{**fields, "members": tuple(fields["members"])})


def _marks(right: tuple[bool, ...]) -> str:
    return "".join("01"[mark] for mark in right)


def _share(marks: str) -> float:
    return marks.count("1") / len(marks)
