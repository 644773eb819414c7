"""Cells: one merge, measured.

Covered: the value, its line.
Not covered: what is measured (`measure.py`), which cells there should be (`design.py`), the file of
them (`tests/lab/cell_file.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

MODES = ("1", "match", "best")  # the scales at which every merge is tested


@dataclass(frozen=True, slots=True)
class Cell:
    """One merge of one set of adapters, tested at three scales."""

    key: str  # of recipe and protocol: equal keys, equal numbers
    method: str
    options: Mapping[str, object]  # those asked for; the rest are the method's defaults
    seed: int  # of the adapters
    tasks: tuple[str, ...]
    rank: int  # the largest over modules
    norm: float  # of the result at scale 1, in the ingredients' mean norm
    cosine: float  # to the ingredients, mean
    scales: Mapping[str, float]  # by mode
    marks: Mapping[str, Mapping[str, float]]  # by mode: share right by task
    base_skills: float  # share right of the base's own prompts, at the best scale
    seconds: float  # of the merge

    def mean(self, mode: str) -> float:
        """The mean over the ingredients' tasks."""
        return sum(self.marks[mode][task] for task in self.tasks) / len(self.tasks)

    def to_line(self) -> str:
        """The cell as JSON without a line break."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_line(line: str) -> "Cell":
        """The cell of a line; raises ValueError for a line that was cut off."""
        fields = json.loads(line)
        return Cell(**{**fields, "tasks": tuple(fields["tasks"])})
