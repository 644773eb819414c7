"""A unit: the examples of one task and seed, and what is known of the pool on them.

Covered: contexts to learn in, the fresh LoRA, members' scores, choosing members; measuring a cell,
which every study of adaptive merging shares. Not covered: the arms (`arms.py`), the base and the
protocol of a study (`measure.py`).
"""

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.adaptive import controls as reality
from merge.adaptive.candidates import Candidate
from merge.adaptive.context import AdapterRef, JobContext, Setting
from merge.adaptive.evaluation import task_of
from merge.adaptive.options import Options, Selection
from merge.adaptive.pool import FileScores, MemberScore, PoolMember
from merge.adaptive.scoring.scorer import Scorer
from merge.adaptive.selection import select
from merge.peft_format import open_folder
from tests.lab.adapting.arms import Among
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import Arm, Wanted
from tests.lab.adapting.pool import Pool, Skilled
from tests.lab.adapting.tasks import Split


@dataclass(frozen=True, slots=True)
class Setup:
    """What all units of a task share."""

    setting: Setting
    options: Options  # but for their seed
    model: Any  # that is trained on, frozen
    scorer: Scorer
    pool: Pool
    folder: Path  # the study's own
    compared_on: int | None = None  # training examples, the first ones; None for all


class Unit:
    """A task's examples of one seed and what is known on them: a place for arms."""

    def __init__(self, setup: Setup, task: Skilled, split: Split, wanted: Wanted) -> None:
        self._setup, self._task, self._split = setup, task, split
        self._options = Options.parse({**setup.options.to_json(), "seed": wanted.seed})
        self._memory = FileScores(setup.folder / "scores")
        self._fresh = self.context(f"fresh-{wanted.task}-{wanted.seed}-{wanted.examples}")

    def context(self, name: str, shown: int | None = None) -> JobContext:
        """Return a context with a folder of that name, and the first training examples or all."""
        setup, split = self._setup, self._split
        return JobContext(
            setup.setting, self._options, model=setup.model, scorer=setup.scorer,
            train=split.train[:shown], validation=split.validation, tests=split.tests,
            folder=setup.folder / "contexts" / name, watch=lambda _: None,
        )  # fmt: skip

    def fresh_lora(self) -> Candidate:
        """See `Place`."""
        context, dropout = self._fresh, self._options.fresh_dropout
        return context.candidate(
            "fresh_lora", lambda: reality.fresh_lora(context, "fresh_lora", "", dropout)
        )

    def fresh(self) -> AdapterRef:
        """See `Place`."""
        self.fresh_lora()
        return self._fresh.own("fresh_lora")

    def scores(self) -> dict[str, MemberScore]:
        """See `Place`."""
        return {member.digest: self._score(member) for member in self._setup.pool.adapters}

    def chosen(self, k: int, among: Among, how: Selection) -> list[AdapterRef]:
        """See `Place`."""
        choices = select(
            among(self._setup.pool, self._task), k, how, seed=self._options.seed,
            evaluate=self._score, similarity=lambda _: 0.0,
        )  # fmt: skip
        return [
            AdapterRef(each.reference, each.digest, open_folder(each.path))
            for each in (choice.member for choice in choices)
        ]

    def _score(self, member: PoolMember) -> MemberScore:
        context = self.context("scores", self._setup.compared_on)
        task = task_of(context)
        known = self._memory.get(task, member.digest)
        if known is None:
            known = context.scorer.score(context.updates(open_folder(member.path)), context.train)
            self._memory.put(task, member.digest, known)
        return MemberScore(known.accuracy, known.loss)


class Bench(ABC):
    """Everything that stays the same from cell to cell of a study."""

    def __init__(self, arms: Mapping[str, Arm]) -> None:
        self._arms = arms
        self._units: dict[tuple[str, int, int], Unit] = {}

    @abstractmethod
    def key(self, wanted: Wanted) -> str:
        """What identifies the numbers of a cell: its place, the pool, the protocol."""

    @abstractmethod
    def unit(self, wanted: Wanted) -> Unit:
        """Return the place of a cell."""

    def measure(self, wanted: Wanted) -> Cell:
        """Learn and examine."""
        place = (wanted.task, wanted.seed, wanted.examples)
        if place not in self._units:
            self._units[place] = self.unit(wanted)
        unit, arm = self._units[place], self._arms[wanted.arm]
        context = unit.context(self.key(wanted), arm.shown)
        began = time.process_time()
        made = arm.make(unit, context)
        seconds = time.process_time() - began
        shutil.rmtree(context.folder, ignore_errors=True)
        return Cell.of(self.key(wanted), wanted.arm, place, made, seconds)
