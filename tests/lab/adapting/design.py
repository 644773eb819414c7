"""What is measured: tasks, seeds, arms, and with how many examples each.

A seed decides which examples are drawn, in what order they are trained on, where the fresh LoRA
begins, and what is redrawn at random. Units (a task with a seed) come seed by seed, so that a
stopped run leaves whole ones of every task.

Covered: the list of wanted cells. Not covered: measuring them (`measure.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.lab.adapting import arms
from tests.lab.adapting.arms import Make, lorahub_over, random_parameters, recycled
from tests.lab.adapting.pool import Pool
from tests.lab.adapting.tasks import FEW_SHOT

SEEDS = (0, 1, 2)
EXAMPLES = (10, 30, 100)
MOST = max(EXAMPLES)
SIZES = (2, 5, 10)  # how many adapters are merged
PART = 5  # of the relevant and of the irrelevant ones


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to learn, under the name that results give it."""

    title: str
    make: Make
    examples: Sequence[int] = (MOST,)
    shown: int | None = None  # training examples, the first ones; None for all


ARMS: Mapping[str, Arm] = {
    "base": Arm("the base alone", arms.base),
    "best_single": Arm("the best of the pool, as it is", arms.best_single),
    "average": Arm("average of 10", arms.average),
    "scale": Arm("average of 10 at its best scale", arms.scaled),
    "lorahub": Arm("LoraHub over 10", lorahub_over(target=False)),
    "recycle": Arm("recycle over 10", recycled(), EXAMPLES),
    "random_parameters": Arm("recycle over 10 redrawn at random", random_parameters(target=False)),
    "fresh_lora": Arm("a fresh LoRA", arms.fresh_lora, EXAMPLES),
    "fresh_lora_dropout": Arm("a fresh LoRA, dropout 0.5", arms.fresh_lora_dropout),
    "fresh_lora_retuned": Arm("the fresh LoRA, retuned alone", arms.fresh_lora_retuned),
    "lorahub_target": Arm("LoraHub over the fresh LoRA and 9", lorahub_over(target=True)),
    "recycle_target": Arm("recycle over the fresh LoRA and 9", recycled(target=True), EXAMPLES),
    "random_parameters_target": Arm(
        "recycle over the fresh LoRA and 9 redrawn at random", random_parameters(target=True)
    ),
    "recycle_k2": Arm("recycle over 2", recycled(2)),
    "recycle_k5": Arm("recycle over 5", recycled(5)),
    "recycle_target_k2": Arm("recycle over the fresh LoRA and 1", recycled(2, target=True)),
    "recycle_target_k5": Arm("recycle over the fresh LoRA and 4", recycled(5, target=True)),
    "recycle_relevant": Arm(
        "recycle over 5 that share a skill", recycled(PART, among=Pool.relevant)
    ),
    "recycle_irrelevant": Arm(
        "recycle over 5 that share none", recycled(PART, among=Pool.irrelevant)
    ),
    "recycle_lot": Arm("recycle over 10 drawn by lot", recycled(how="random")),
    "recycle_target_lot": Arm(
        "recycle over the fresh LoRA and 9 drawn by lot", recycled(target=True, how="random")
    ),
}

# Measured last, for they answer what the paper's main findings do not ask.
LAST = ("lorahub_target", "recycle_lot", "recycle_target_lot")
CORE = tuple(name for name in ARMS if name not in LAST)


class Wanted(NamedTuple):
    """One cell: an arm in its place."""

    arm: str
    task: str
    seed: int
    examples: int


def wanted_cells() -> Iterator[Wanted]:
    """Every cell: the core of all units first, then the other arms."""
    for names in (CORE, LAST):
        for seed in SEEDS:
            for task in FEW_SHOT:
                yield from (
                    Wanted(name, task, seed, examples)
                    for examples in EXAMPLES
                    for name in names
                    if examples in ARMS[name].examples
                )
