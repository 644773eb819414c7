"""Measure one cell: the examples of its unit, the pool's scores on them, the arm, the exam.

Covered: the protocol, which is part of a cell's key; what the arms of a unit share.
Not covered: the arms themselves (`arms.py`), which cells (`design.py`).
"""

import hashlib
import json
import shutil
import time
from pathlib import Path

from merge.adaptive import controls as reality
from merge.adaptive.candidates import Candidate
from merge.adaptive.context import AdapterRef, JobContext, Setting
from merge.adaptive.evaluation import task_of
from merge.adaptive.model.base import Loaded
from merge.adaptive.options import Options, Selection
from merge.adaptive.pool import FileScores, MemberScore, PoolMember
from merge.adaptive.selection import select
from merge.peft_format import open_folder
from tests.lab.adapting.arms import Among
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import ARMS, Wanted
from tests.lab.adapting.pool import Pool
from tests.lab.adapting.scoring import Examiner
from tests.lab.adapting.tasks import FEW_SHOT, TEST_SEED, TESTS_EACH, split
from tests.lab.merging.adapters import BASE
from tests.lab.train_adapters import BASE_NAME

SETTING = Setting(str(BASE), BASE_NAME, device="cpu", dtype="float32", rank_limit=64)
OPTIONS = Options(fresh_steps=200)
_OF_VERDICTS = ("folds", "fold_hours")  # options that decide no cell
PROTOCOL = {
    "version": 1, "tests": TESTS_EACH, "test_seed": TEST_SEED, "rank_limit": SETTING.rank_limit,
    "options": {name: value for name, value in OPTIONS.to_json().items()
                if name not in _OF_VERDICTS},
}  # fmt: skip


class Bench:
    """Everything that stays the same from cell to cell; `folder` is its own."""

    def __init__(self, base: Loaded, pool: Pool, folder: Path) -> None:
        self._base, self._pool, self._folder = base, pool, folder
        self._units: dict[tuple[str, int, int], Unit] = {}

    def key(self, wanted: Wanted) -> str:
        """What identifies the numbers of a cell: its place, the pool, the protocol."""
        digests = sorted(one.digest for one in self._pool.adapters)
        what = FEW_SHOT[wanted.task].description
        text = json.dumps([wanted, what, digests, PROTOCOL], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def measure(self, wanted: Wanted) -> Cell:
        """Learn and examine."""
        place = (wanted.task, wanted.seed, wanted.examples)
        if place not in self._units:
            self._units = {place: Unit(self._base, self._pool, self._folder, wanted)}
        unit = self._units[place]
        context = unit.context(self.key(wanted))
        began = time.perf_counter()
        made = ARMS[wanted.arm].make(unit, context)
        seconds = made.seconds or time.perf_counter() - began
        shutil.rmtree(context.folder, ignore_errors=True)
        return Cell.of(self.key(wanted), wanted.arm, place, made, seconds)


class Unit:
    """A task's examples of one seed and what is known on them: a place for arms."""

    def __init__(self, base: Loaded, pool: Pool, folder: Path, wanted: Wanted) -> None:
        self._base, self._pool = base, pool
        self._task = FEW_SHOT[wanted.task]
        self._split = split(base.tokenizer, self._task, wanted.examples, wanted.seed)
        self._options = Options.parse({**OPTIONS.to_json(), "seed": wanted.seed})
        self._folder, self._memory = folder, FileScores(folder / "scores")
        self._fresh = self.context(f"fresh-{wanted.task}-{wanted.seed}-{wanted.examples}")

    def context(self, name: str) -> JobContext:
        """Return a context with a folder of that name."""
        return JobContext(
            SETTING, self._options, model=self._base.model,
            scorer=Examiner(self._base.model), train=self._split.train,
            validation=self._split.validation, tests=self._split.tests,
            folder=self._folder / "contexts" / name, watch=lambda _: None,
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
        return {member.digest: self._score(member) for member in self._pool.adapters}

    def chosen(self, k: int, among: Among, how: Selection) -> list[AdapterRef]:
        """See `Place`."""
        found = select(
            among(self._pool, self._task), k, how, seed=self._options.seed, evaluate=self._score,
            similarity=lambda _: 0.0,
        )  # fmt: skip
        return [
            AdapterRef(each.reference, each.digest, open_folder(each.path))
            for each in (chosen.member for chosen in found)
        ]

    def _score(self, member: PoolMember) -> MemberScore:
        context, task = self._fresh, task_of(self._fresh)
        known = self._memory.get(task, member.digest)
        if known is None:
            known = context.scorer.score(context.updates(open_folder(member.path)), context.train)
            self._memory.put(task, member.digest, known)
        return MemberScore(known.accuracy, known.loss)
