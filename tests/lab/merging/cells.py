"""Cells: one merge, measured; a file with one on each line, so that a stopped run goes on.

Covered: the value, its line, reading what an interrupted run left.
Not covered: what is measured (`measure.py`), which cells there should be (`design.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

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


class CellFile:
    """The cells measured so far, in memory and on disk."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line without an end was being written and is dropped."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole)
        self._cells = {cell.key: cell for cell in map(Cell.from_line, whole.splitlines())}

    def get(self, key: str) -> Cell | None:
        """The cell of that key, if it was measured."""
        return self._cells.get(key)

    def add(self, cell: Cell) -> None:
        """Keep a cell, on disk before this returns."""
        with self.path.open("a") as file:
            file.write(cell.to_line() + "\n")
        self._cells[cell.key] = cell
