"""How a job measures: by cross-fitting, or on questions that are spared, by what folds would cost.

With folds every candidate is learned once for each of them and once more to be served: a job of
five takes about six times the training. So folds that no option asks for must fit a budget of time,
which is predicted from the second of two training steps. The decision is kept: a resumed job, on
whatever machine, goes on as it began. Not covered: which examples are in a fold (`split`).
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from merge.adaptive.model.fresh_lora import Fresh, FreshPlan, linear_widths
from merge.adaptive.options import Options
from merge.adaptive.scoring.examples import Example
from merge.adaptive.training import Progress, Run, Schedule
from merge.peft_format.atomic_files import write_atomic

PLAN = "plan.json"  # in a job's folder
FOLDS = 5  # where they fit the budget
_PASS = 1 / 3  # of a step: no gradients
_SEARCH = 13  # losses that a scale is searched by


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision.

    Attributes:
        folds: of cross-fitting; 0 for one learning, measured on questions that it never sees.
        estimate: seconds that the folds' trainings were predicted to take; None for a given number.
    """

    folds: int
    estimate: float | None = None

    def save(self, folder: Path) -> None:
        """Write it into a job's folder. Raises OSError: the disk is full or gone."""
        write_atomic(folder / PLAN, json.dumps(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def load(cls, folder: Path) -> "Plan | None":
        """Return the plan of a job that has begun; None for a new one."""
        path = folder / PLAN
        return cls(**json.loads(path.read_text())) if path.exists() else None


def decide(
    options: Options, examples: int, *, validated: bool, step_seconds: Callable[[], float]
) -> Plan:
    """Return the plan of a new job.

    Args:
        options: of the job.
        examples: that it learns from.
        validated: whether there are validation examples; they measure, without folds.
        step_seconds: measures one training step.

    Raises:
        OptionsInvalid: folds were asked for beside validation examples.
    """
    if validated:
        options.check_validation()
    if validated or options.folds is not None:
        return Plan(options.folds or 0)
    estimate = round(FOLDS * training_steps(options, examples) * step_seconds(), 1)
    return Plan(FOLDS if estimate <= 3600 * options.fold_hours else 0, estimate)


def training_steps(options: Options, examples: int) -> float:
    """Return what one fold's learning takes, in training steps; generated answers are not in it."""
    epoch = math.ceil(examples / options.batch_size)
    method = {
        "recycle": options.steps, "lorahub": _PASS * options.budget * epoch,
        "scale": _PASS * _SEARCH * epoch,
    }[options.method]  # fmt: skip
    fresh = options.fresh_steps if options.needs_fresh else 0
    if not options.reality_check:
        return fresh + len(options.k) * method
    redrawn = 0 if options.method == "scale" else len(options.k) * method
    return 2 * fresh + options.steps + len(options.k) * method + redrawn


def time_of_step(model: Any, examples: Sequence[Example], options: Options, rank: int) -> float:
    """Return the seconds of a training step of a fresh LoRA; the first of two warms up."""
    ended: list[float] = []

    def watch(_: Progress) -> None:
        ended.append(time.perf_counter())

    updates = Fresh(linear_widths(model), FreshPlan(rank, options.fresh_alpha, seed=options.seed))
    schedule = Schedule(
        steps=2, learning_rate=options.fresh_learning_rate, batch_size=options.batch_size,
        seed=options.seed,
    )  # fmt: skip
    Run("timing", model, updates, examples, (), schedule, watch)()
    return ended[1] - ended[0]
