"""What is measured: base and adapters on each skill, and merges on the tasks that need two.

Every cell is one model on one task; it is kept in a file, so that a stopped run goes on.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from merge.peft_format import open_folder
from tests.lab.cell_file import CellFile
from tests.lab.merging.adapters import read_update
from tests.lab.skills import SKILLS
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.evaluate import Examiner, merged_update
from tests.lab.skills.marks import Marker, Sheet
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
    marks: list[bool]
    scale: float
    scales: dict[str, float]
    answers: list[str]  # to the first prompts: those that the page shows
    seconds: float

    @property
    def tests(self) -> int:
        """How many prompts were answered."""
        return len(self.marks)

    @property
    def right(self) -> int:
        """How many answers are right."""
        return sum(self.marks)

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


def shown(task: Skill) -> int:
    """How many of a task's test prompts the page shows."""
    return SHOWN_COMPOSED if task.parts else SHOWN_ALONE


class Bench:
    """The base, and the prompts of the task at hand as the first changed layer receives them."""

    def __init__(self, base: Path, adapters: Iterable[Path]) -> None:
        """`adapters` are all that will be measured: layers below them are computed once."""
        self._examiner = Examiner(base)
        modules = {name for folder in adapters for name in open_folder(folder).modules}
        self._marker = Marker(self._examiner, modules)
        self._task: Skill | None = None
        self._tests: Sheet | None = None
        self._validation: Sheet | None = None

    def measure(self, wanted: Wanted) -> Cell:
        """Find the scale on validation prompts, if it is tuned, and answer the test prompts."""
        started = time.monotonic()
        update, task = wanted.update(), wanted.task
        tests, validation = self._sheets(task)
        scales: dict[str, float] = {}
        if wanted.tuned:
            scales = {str(scale): self._share(update, scale, validation) for scale in SCALES}
        # Of equal ones the one nearest to 1.
        best = max(scales, key=lambda s: (scales[s], -abs(float(s) - 1.0)), default="1.0")
        scale = float(best)
        with self._examiner.lab.updated(update, scale):
            marks = self._marker.right(tests)
        answers = self._examiner.answers(update, scale, task, tests.examples[: shown(task)])
        return Cell(
            wanted.model,
            task.name,
            marks,
            scale,
            scales,
            [answer.text for answer in answers],
            round(time.monotonic() - started, 1),
        )

    def _share(self, update: Mapping[str, Tensor], scale: float, sheet: Sheet) -> float:
        with self._examiner.lab.updated(update, scale):
            return self._marker.marks(sheet).share

    def _sheets(self, task: Skill) -> tuple[Sheet, Sheet]:
        """The sheets of tests and validation; only the last task's are kept."""
        if task != self._task or self._tests is None or self._validation is None:
            count = TESTS_COMPOSED if task.parts else TESTS_ALONE
            self._tests = self._marker.sheet(task, task.examples("test", count, SEED))
            validation = task.examples("validation", VALIDATION, SEED)
            self._validation = self._marker.sheet(task, validation)
            self._task = task
        return self._tests, self._validation


def measure_missing(
    bench: Bench, file: Path, wanted: Sequence[Wanted], say: Callable[[str], None]
) -> list[Cell]:
    """Measure what is not in the file yet; return the cells in the order wanted."""
    cells = CellFile(file, Cell.from_line)
    found = []
    for one in wanted:
        cell = cells.get(f"{one.model} on {one.task.name}")
        if cell is None:
            cells.add(cell := bench.measure(one))
            say(f"{cell.key}: {cell.right}/{cell.tests} at scale {cell.scale} ({cell.seconds} s)")
        found.append(cell)
    return found
