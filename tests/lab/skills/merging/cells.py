"""Cells: a merge on its ingredients' tasks, and a model alone on one task.

Covered: the values and their lines. Not covered: how they are measured (`measure.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

Counts = Mapping[str, int]  # right answers by task


@dataclass(frozen=True, slots=True)
class Cell:
    """One merge of a subset of the skills, at up to three scales."""

    key: str  # of recipe and protocol: equal keys, equal numbers
    row: str
    method: str
    options: Mapping[str, object]
    skills: tuple[str, ...]
    rank: int  # the largest over modules
    norm: float  # of the result at scale 1, in the ingredients' mean norm
    cosine: float  # to the ingredients, mean
    scales: Mapping[str, float]  # by mode
    tried: Mapping[str, tuple[float, float]]  # scale -> share exact and nats, on validation prompts
    right: Mapping[str, Counts]  # by mode
    composed: Counts  # at the best scale, or at the only one
    tests: int  # prompts of each task
    merge_seconds: float
    cpu_seconds: float

    def to_line(self) -> str:
        """The cell as JSON without a line break."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_line(line: str) -> "Cell":
        """The cell of a line."""
        fields = json.loads(line)
        tried = {scale: tuple(values) for scale, values in fields["tried"].items()}
        return Cell(**{**fields, "skills": tuple(fields["skills"]), "tried": tried})


@dataclass(frozen=True, slots=True)
class Alone:
    """The base, or one adapter, on one task."""

    key: str
    model: str
    task: str
    right: int
    tests: int
    cpu_seconds: float

    def to_line(self) -> str:
        """The value as JSON without a line break."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_line(line: str) -> "Alone":
        """The value of a line."""
        return Alone(**json.loads(line))
