"""What is measured: base and adapters on each skill, and merges on the tasks that need two.

Every cell is one model on one task; it is kept in a file, so that a stopped run goes on.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from tests.lab.cell_file import CellFile
from tests.lab.merging.adapters import read_update
from tests.lab.skills import SKILLS
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.evaluate import Examiner, merged_update
from tests.lab.skills.skill import Skill

TESTS_ALONE, TESTS_COMPOSED = 100, 50
VALIDATION = 20
SEED = 1
SCALES = (0.5, 0.7, 0.85, 1.0)
SHOWN_ALONE, SHOWN_COMPOSED = 1, 2  # prompts on the page with every answer
# The exact sum; the same at the rank of one adapter; clusters of ranks; two that keep skills apart.
MERGES: tuple[tuple[str, dict[str, object]], ...] = (
    ("cat", {}),
    ("linear", {"rank": 8}),
    ("lego", {"rank": 8}),
    ("tsv", {}),
    ("actmat", {}),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """How a model answers a task's test prompts; `scales` are its marks on validation prompts."""

    model: str
    task: str
    right: int
    tests: int
    scale: float
    scales: dict[str, float]
    answers: list[str]  # whole where the page shows them, others up to where they are wrong
    seconds: float

    @property
    def key(self) -> str:
        """The model and the task."""
        return f"{self.model} on {self.task}"

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_line(line: str) -> "Cell":
        """Read `to_line`."""
        return Cell(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cell to measure: where the model's update comes from, and whether its scale is tuned."""

    model: str
    task: Skill
    update: Callable[[], dict[str, Tensor]]
    tuned: bool = False


def singles(adapters: Callable[[str], Path]) -> Iterator[Wanted]:
    """Base and adapter on each skill that has an adapter."""
    for skill in SKILLS.values():
        if (folder := adapters(skill.name)).is_dir():
            yield Wanted(skill.name, skill, partial(read_update, folder))
            yield Wanted("base", skill, dict)


def compositions(adapters: Callable[[str], Path]) -> Iterator[Wanted]:
    """Base, each part and each merge on every task of two skills."""
    for task in COMPOSED.values():
        folders = [adapters(part) for part in task.parts]
        if not all(folder.is_dir() for folder in folders):
            continue
        yield Wanted("base", task, dict)
        for part, folder in zip(task.parts, folders, strict=True):
            yield Wanted(part, task, partial(read_update, folder))
        for method, options in MERGES:
            yield Wanted(
                expression(method, task.parts, options),
                task,
                partial(merged_update, method, folders, options),
                tuned=True,
            )


def expression(method: str, parts: Sequence[str], options: dict[str, object]) -> str:
    """A merge as a client writes it."""
    written = "; " + ", ".join(f"{name}={value}" for name, value in options.items())
    return f"{method}({', '.join(parts)}{written if options else ''})"


def tests(task: Skill) -> int:
    """How many of a task's test prompts are answered."""
    return TESTS_COMPOSED if task.parts else TESTS_ALONE


def shown(task: Skill) -> int:
    """How many of a task's test prompts the page shows."""
    return SHOWN_COMPOSED if task.parts else SHOWN_ALONE


def measure(examiner: Examiner, wanted: Wanted) -> Cell:
    """Find the scale on validation prompts, if it is tuned, and answer the test prompts."""
    started = time.monotonic()
    update, task = wanted.update(), wanted.task
    scales: dict[str, float] = {}
    if wanted.tuned:
        validation = task.examples("validation", VALIDATION, SEED)
        scales = {str(scale): examiner.exact_share(update, scale, validation) for scale in SCALES}
    # Of equal ones the one nearest to 1.
    scale = max(scales, key=lambda s: (scales[s], -abs(float(s) - 1.0)), default="1.0")
    answers = examiner.answers(
        update, float(scale), task, task.examples("test", tests(task), SEED), shown(task)
    )
    return Cell(
        wanted.model,
        task.name,
        sum(answer.right for answer in answers),
        len(answers),
        float(scale),
        scales,
        [answer.text for answer in answers],
        round(time.monotonic() - started, 1),
    )


def measure_missing(
    examiner: Examiner, file: Path, wanted: Sequence[Wanted], say: Callable[[str], None]
) -> list[Cell]:
    """Measure what is not in the file yet; return the cells in the order wanted."""
    cells = CellFile(file, Cell.from_line)
    found = []
    for one in wanted:
        cell = cells.get(f"{one.model} on {one.task.name}")
        if cell is None:
            cells.add(cell := measure(examiner, one))
            say(f"{cell.key}: {cell.right}/{cell.tests} at scale {cell.scale} ({cell.seconds} s)")
        found.append(cell)
    return found
