"""Measure one cell: merge, find the best scale on validation prompts, test at three scales.

Covered: the protocol, which is part of a cell's key. Not covered: which merges (`design.py`).
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

from torch import Tensor

from merge.peft_format import digest_folder, open_folder
from merge.recipe import Member, Recipe, plan
from merge.report import Report
from merge.run import merge
from tests.lab.language import TASKS, Example, draw_examples, draw_explicit
from tests.lab.merging.adapters import adapter_folder, read_update
from tests.lab.merging.cells import Cell
from tests.lab.merging.design import Wanted
from tests.lab.merging.scoring import Exam, Lab
from tests.lab.train_adapters import BASE_NAME

TESTS_EACH = 40
VALIDATION_EACH = 16
PROMPT_SEED = 2  # drawn together and then split, so that no prompt is in both
# Norms of the result, in the ingredients' mean norm, among which the best scale is looked for.
GRID = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
STEP = 1.4  # from one to the next beyond the grid
PROTOCOL = {
    "version": 2,
    "tests": TESTS_EACH,
    "validation": VALIDATION_EACH,
    "prompt_seed": PROMPT_SEED,
    "grid": GRID,
    "step": STEP,
}


class Bench:
    """Everything that stays the same from cell to cell."""

    def __init__(self, lab: Lab, adapters: Path) -> None:
        self._lab = lab
        self._adapters = adapters
        self._members: dict[Path, Member] = {}

    def recipe(self, wanted: Wanted) -> Recipe:
        """The recipe of a wanted cell; what draws at random is seeded like the adapters."""
        folders = [adapter_folder(self._adapters, wanted.seed, task) for task in wanted.tasks]
        return plan(
            wanted.variant.method,
            [self._member(folder) for folder in folders],
            options=wanted.options,
            base=BASE_NAME,
            dtype="float32",
            rank_limit=None,
        )

    def key(self, wanted: Wanted) -> str:
        """What identifies the numbers of a cell: ingredients, method, options, protocol."""
        text = json.dumps([self.recipe(wanted).canonical(), PROTOCOL], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def measure(self, wanted: Wanted) -> Cell:
        """Merge and test."""
        updates, report, seconds = self._merge(self.recipe(wanted))
        overall = report.overall
        mean_norm = fmean(overall.ingredient_norm(i) for i in overall.squares)
        match = mean_norm / overall.norm if overall.norm > 0.0 else 1.0
        best = self._best_scale(wanted.tasks, updates, match)
        scales = {"1": 1.0, "match": match, "best": best}
        exam = Exam.of(split(wanted.tasks, "test"))
        marks = {scale: self._lab.marks(exam, updates, scale) for scale in set(scales.values())}
        kept = self._lab.marks(Exam.of({"base": base_examples()}), updates, best)["base"]
        cosines = [overall.cosine(i) or 0.0 for i in overall.squares]
        return Cell(
            key=self.key(wanted),
            method=wanted.variant.method,
            options=wanted.options,
            seed=wanted.seed,
            tasks=wanted.tasks,
            rank=overall.rank,
            norm=round(1.0 / match, 4),
            cosine=round(fmean(cosines), 4),
            scales={mode: round(scale, 5) for mode, scale in scales.items()},
            marks={mode: marks[scale] for mode, scale in scales.items()},
            base_skills=kept,
            seconds=round(seconds, 3),
        )

    def _member(self, folder: Path) -> Member:
        if folder not in self._members:
            self._members[folder] = Member.from_folder(
                folder.name, open_folder(folder), 1.0, digest_folder(folder)
            )
        return self._members[folder]

    def _merge(self, recipe: Recipe) -> tuple[dict[str, Tensor], Report, float]:
        folders = {member.digest: folder for folder, member in self._members.items()}
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "merged"
            start = time.perf_counter()
            report = merge(recipe, folders, out)
            seconds = time.perf_counter() - start
            return read_update(out), report, seconds

    def _best_scale(self, tasks: Sequence[str], updates: dict[str, Tensor], match: float) -> float:
        """The scale with the best validation mean; the one nearest to `match` of equal ones.

        Where that is the largest of the grid, larger ones are tried for as long as they are better.
        """
        exam = Exam.of(split(tasks, "validation"))

        def mean(scale: float) -> float:
            return fmean(self._lab.marks(exam, updates, scale).values())

        candidates = sorted({1.0, *(norm * match for norm in GRID)}, key=lambda s: abs(s - match))
        means = [mean(scale) for scale in candidates]
        top = max(means)
        best = candidates[means.index(top)]
        if best == max(candidates):
            while (further := mean(best * STEP)) > top:
                best, top = best * STEP, further
        return best


def split(tasks: Sequence[str], part: Literal["test", "validation"]) -> dict[str, list[Example]]:
    """The prompts of a part: the first TESTS_EACH of each task's draw, or those after them."""
    chosen = slice(TESTS_EACH) if part == "test" else slice(TESTS_EACH, None)
    count = TESTS_EACH + VALIDATION_EACH
    return {task: TASKS[task].prompts(count, PROMPT_SEED)[chosen] for task in tasks}


def base_examples() -> list[Example]:
    """Prompts in skill words: what the base can do alone, and a merge should not spoil."""
    return draw_examples(draw_explicit, TESTS_EACH, seed=f"base/{PROMPT_SEED}")
