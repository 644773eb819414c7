"""Measure one cell: merge, find the best scale on validation prompts, test at up to three scales.

Covered: the protocol, which is part of every key. Not covered: which merges (`design.py`).
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import fmean

from torch import Tensor

from merge.peft_format import digest_folder, open_folder
from merge.recipe import Member, Recipe, plan
from merge.report import Report
from merge.run import merge
from server.cli.demo_base import BASE_NAME
from tests.lab.merging.adapters import read_update
from tests.lab.skills import SKILLS
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.evaluate import Examiner
from tests.lab.skills.marks import Marker, Sheet
from tests.lab.skills.merging.cells import Alone, Cell
from tests.lab.skills.merging.design import Wanted
from tests.lab.skills.skill import Skill, Split

TESTS = 8
VALIDATION = 4
PROMPT_SEED = 3
# Norms of the result, in the ingredients' mean norm, among which the best scale is looked for,
# beside scale 1.
GRID = (0.7, 1.0, 1.4, 2.0)
NEAR = 0.05  # a scale that is nearer to 1 than this is 1: marks hardly change, and cost as much
PROTOCOL = {
    "version": 1, "tests": TESTS, "validation": VALIDATION, "prompt_seed": PROMPT_SEED,
    "grid": GRID, "near": NEAR,
}  # fmt: skip
BASE = "base"  # the model without an adapter

Adapters = Callable[[str], Path]


class Bench:
    """Everything that stays the same from cell to cell."""

    def __init__(self, base: Path, adapters: Adapters) -> None:
        self._adapters = adapters
        self._members = {
            name: Member.from_folder(
                name, open_folder(adapters(name)), 1.0, digest_folder(adapters(name))
            )
            for name in SKILLS
        }
        examiner = Examiner(base)
        modules = {name for member in self._members.values() for name in member.modules}
        self._lab, self._marker = examiner.lab, Marker(examiner, modules)
        self._sheets: dict[tuple[str, Split], Sheet] = {}

    def recipe(self, wanted: Wanted) -> Recipe:
        """The recipe of a wanted cell."""
        return plan(
            wanted.row.method,
            [self._members[name] for name in wanted.skills],
            options=wanted.options,
            base=BASE_NAME,
            dtype="bfloat16",
            rank_limit=None,
        )

    def key(self, wanted: Wanted) -> str:
        """What identifies the numbers of a cell: ingredients, method, options, modes, protocol."""
        return _digest([self.recipe(wanted).canonical(), list(wanted.row.modes), PROTOCOL])

    def measure(self, wanted: Wanted) -> Cell:
        """Merge and test."""
        cpu, started = time.process_time(), time.perf_counter()
        updates, report = self._merge(self.recipe(wanted))
        seconds = time.perf_counter() - started
        overall = report.overall
        mean_norm = fmean(overall.ingredient_norm(i) for i in overall.squares)
        match = mean_norm / overall.norm if overall.norm > 0.0 else 1.0
        scales, tried = {"1": 1.0}, {}
        if "best" in wanted.row.modes:
            tried = self._tried(wanted, updates, candidates(match))
            scales |= {"match": rounded(match), "best": best_scale(tried, match)}
        skills = [SKILLS[name] for name in wanted.skills]
        right = {
            scale: self._right(updates, scale, skills) for scale in dict.fromkeys(scales.values())
        }
        last = [*scales.values()][-1]
        return Cell(
            key=self.key(wanted),
            row=wanted.row.label,
            method=wanted.row.method,
            options=wanted.options,
            skills=wanted.skills,
            rank=overall.rank,
            norm=round(1.0 / match, 4),
            cosine=round(fmean(overall.cosine(i) or 0.0 for i in overall.squares), 4),
            scales={mode: round(scale, 5) for mode, scale in scales.items()},
            tried={f"{scale:.5f}": marks for scale, marks in tried.items()},
            right={mode: right[scale] for mode, scale in scales.items()},
            composed=self._right(updates, last, wanted.tasks),
            tests=TESTS,
            merge_seconds=round(seconds, 2),
            cpu_seconds=round(time.process_time() - cpu, 1),
        )

    def alone_key(self, model: str, task: Skill) -> str:
        """What identifies how a model does alone."""
        digest = "" if model == BASE else self._members[model].digest
        return _digest([model, digest, task.name, PROTOCOL])

    def alone(self, model: str, task: Skill) -> Alone:
        """How the base, or one adapter, does on a task."""
        cpu = time.process_time()
        updates = {} if model == BASE else read_update(self._adapters(model))
        right = self._right(updates, 1.0, [task])[task.name]
        seconds = round(time.process_time() - cpu, 1)
        return Alone(self.alone_key(model, task), model, task.name, right, TESTS, seconds)

    def _merge(self, recipe: Recipe) -> tuple[dict[str, Tensor], Report]:
        folders = {member.digest: self._adapters(name) for name, member in self._members.items()}
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "merged"
            report = merge(recipe, folders, out)
            return read_update(out), report

    def _tried(
        self, wanted: Wanted, updates: Mapping[str, Tensor], scales: list[float]
    ) -> dict[float, tuple[float, float]]:
        """Each scale's share of exact answers and nats a token, means over the skills."""
        sheets = [self._sheet(SKILLS[name], "validation", VALIDATION) for name in wanted.skills]
        tried = {}
        for scale in scales:
            with self._lab.updated(updates, scale):
                marks = [self._marker.marks(sheet) for sheet in sheets]
            tried[scale] = (
                round(fmean(one.share for one in marks), 4),
                round(fmean(one.nats for one in marks), 4),
            )
        return tried

    def _right(
        self, updates: Mapping[str, Tensor], scale: float, tasks: list[Skill]
    ) -> dict[str, int]:
        sheets = {task.name: self._sheet(task, "test", TESTS) for task in tasks}
        with self._lab.updated(updates, scale):
            return {name: sum(self._marker.right(sheet)) for name, sheet in sheets.items()}

    def _sheet(self, task: Skill, split: Split, count: int) -> Sheet:
        if (task.name, split) not in self._sheets:
            examples = task.examples(split, count, PROMPT_SEED)
            self._sheets[task.name, split] = self._marker.sheet(task, examples)
        return self._sheets[task.name, split]


def rounded(scale: float) -> float:
    """Return 1 for a scale near it."""
    return 1.0 if abs(scale - 1.0) < NEAR else scale


def candidates(match: float) -> list[float]:
    """Return the scales among which the best is looked for."""
    return sorted({1.0, *(rounded(norm * match) for norm in GRID)})


def best_scale(tried: Mapping[float, tuple[float, float]], match: float) -> float:
    """Return the scale of most exact answers; of equal ones the likeliest, then nearest `match`."""
    return max(tried, key=lambda scale: (tried[scale][0], -tried[scale][1], -abs(scale - match)))


def models_alone() -> Iterator[tuple[str, Skill]]:
    """The base on every task; every adapter on its own and on those of two skills."""
    for task in (*SKILLS.values(), *COMPOSED.values()):
        yield BASE, task
    for name, skill in SKILLS.items():
        yield name, skill
        for task in COMPOSED.values():
            yield name, task


def _digest(parts: list[object]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
