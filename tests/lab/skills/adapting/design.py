"""What is measured: skills held out of the pool, seeds, numbers of examples, ways to learn.

Each skill is learned from a few examples over a pool of the seven others. A round is a seed with a
number of examples, over all skills held out; rounds come one after the other, so that a stopped run
leaves whole ones. Within a round the ways that learn nothing come first.

Covered: the wanted cells, the questions asked of them. Not covered: measuring (`measure.py`).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.lab.adapting import arms
from tests.lab.adapting.arms import lorahub_over, random_parameters, recycled
from tests.lab.adapting.design import Arm, Wanted

# Masking works on the notes that skills of the pool work on; a house style rewrites sentences,
# which they do, too; Spanish numbers are like nothing in the pool. Short, for time's sake.
HELD_OUT = ("mask", "style", "spanish")
SEEDS = (1, 2)
EXAMPLES = (100, 30)
ROUNDS = tuple((seed, examples) for seed in SEEDS for examples in EXAMPLES)
# LoraHub asks for the loss at 40 points: on eight examples that is about as many passes as a
# training has. Its authors use five (arXiv 2307.13269).
LORAHUB_EXAMPLES = 8

ARMS: Mapping[str, Arm] = {
    "base": Arm("the base alone", arms.base),
    "average": Arm("the average of the pool", arms.average),
    "best_single": Arm("the best of the pool, as it is", arms.best_single),
    "scale": Arm("the average at its best scale", arms.scaled),
    "lorahub": Arm(
        f"LoraHub, on {LORAHUB_EXAMPLES} examples", lorahub_over(target=False),
        shown=LORAHUB_EXAMPLES,
    ),
    "recycle": Arm("recycle over the pool", recycled()),
    "random_parameters": Arm(
        "recycle over the pool redrawn at random", random_parameters(target=False)
    ),
    "fresh_lora": Arm("a fresh LoRA", arms.fresh_lora),
    "recycle_target": Arm("recycle over the fresh LoRA and the pool", recycled(target=True)),
    "random_parameters_target": Arm(
        "recycle over the fresh LoRA and the pool redrawn", random_parameters(target=True)
    ),
}  # fmt: skip
BLIND = ("base", "average")  # they see no example, so one cell of a skill stands for all


class Question(NamedTuple):
    """Is `ours` better than `theirs`? With the paper's gain, and how the paper measured it."""

    text: str
    ours: str
    theirs: str
    paper: float | None  # difference of mean accuracies, Llama 3.1 8B, 62 tasks, 100 examples


# Table 2 and figures 3 and 4 of arXiv 2602.12323; its release's files for the average, LoraHub over
# 30 and the best single member, which that takes by the test examples.
QUESTIONS = (
    Question("Does recycling the pool beat the base?", "recycle", "base", 0.185),
    Question("… the best of the pool, as it is?", "recycle", "best_single", 0.007),
    Question("… the average of the pool?", "recycle", "average", 0.108),
    Question("… that average at its best scale?", "recycle", "scale", None),
    Question("… LoraHub?", "recycle", "lorahub", 0.089),
    Question("… a fresh LoRA?", "recycle", "fresh_lora", -0.005),
    Question("Does it with the fresh LoRA in it beat that LoRA alone?", "recycle_target",
             "fresh_lora", 0.018),
    Question("… so with a pool redrawn at random?", "random_parameters_target", "fresh_lora",
             0.015),
    Question("Does the pool's content matter without the fresh LoRA?", "recycle",
             "random_parameters", 0.041),
    Question("… with it?", "recycle_target", "random_parameters_target", 0.003),
    Question("Does the fresh LoRA beat the base?", "fresh_lora", "base", 0.190),
)  # fmt: skip


def wanted_cells() -> Iterator[Wanted]:
    """Every cell, round by round; of arms that see no example, those of the first round alone."""
    for seed, examples in ROUNDS:
        for arm in ARMS:
            if arm not in BLIND or (seed, examples) == ROUNDS[0]:
                for task in HELD_OUT:
                    yield Wanted(arm, task, seed, examples)
