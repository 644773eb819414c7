"""Measure one cell on the demo's tiny base.

Covered: the protocol, which is part of a cell's key. Not covered: what a unit shares (`unit.py`),
the arms themselves (`arms.py`), which cells (`design.py`).
"""

import hashlib
import json
from pathlib import Path

from merge.adaptive.context import Setting
from merge.adaptive.model.base import Loaded
from merge.adaptive.options import Options
from tests.lab.adapting.design import ARMS, Wanted
from tests.lab.adapting.pool import Pool
from tests.lab.adapting.scoring import Examiner
from tests.lab.adapting.tasks import FEW_SHOT, TEST_SEED, TESTS_EACH, split
from tests.lab.adapting.unit import Bench, Setup, Unit
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


class TinyBench(Bench):
    """The tiny base with its pool; `folder` is the study's own."""

    def __init__(self, base: Loaded, pool: Pool, folder: Path) -> None:
        super().__init__(ARMS)
        self._tokenizer, self._pool = base.tokenizer, pool
        self._setup = Setup(SETTING, OPTIONS, base.model, Examiner(base.model), pool, folder)

    def key(self, wanted: Wanted) -> str:
        """See `Bench`."""
        digests = sorted(one.digest for one in self._pool.adapters)
        what = FEW_SHOT[wanted.task].description
        text = json.dumps([wanted, what, digests, PROTOCOL], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def unit(self, wanted: Wanted) -> Unit:
        """See `Bench`."""
        task = FEW_SHOT[wanted.task]
        examples = split(self._tokenizer, task, wanted.examples, wanted.seed)
        return Unit(self._setup, task, examples, wanted)
