"""How often a verdict replaces the fresh LoRA by what is no better, and by what is.

Marks are those of the adaptive table: 200 prompts for each of 15 units, at 100 examples. A job is a
draw of n prompts of one unit, with replacement. On every prompt the arms' marks are shuffled: then
no difference is left, and whatever is replaced is replaced by chance. A gain is put back by making
wrong marks of the method right, each with the same chance. Nats are those of whole jobs
(`jobs.py`): arms swapped, or centred, which leaves the gaps as skewed as they are.
Covered: the rates. Not covered: that marks of one fold share a training, as these do not.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from merge.adaptive.scoring.bootstrap import difference
from merge.adaptive.scoring.paired import ALPHA, mcnemar, sign_flip, visible_share
from tests.lab.adapting.cells import Cell

JOBS = 2000  # of each unit
SIZES = (20, 50, 100, 200)
GAINS = (0.0, 0.05, 0.1, 0.15, 0.2)
METHOD, LORA = "recycle_target", "fresh_lora"
# What a job with several k would have chosen from by its verdict before.
RIVALS = (METHOD, "recycle_target_k2", "recycle_target_k5", "fresh_lora_retuned",
          "fresh_lora_dropout")  # fmt: skip
SEED = 0

Marks = NDArray[np.int8]  # (arms, prompts): 0 and 1
Rule = Callable[[int, int, int], bool]  # of wins, losses and questions: is it replaced


class Unit(NamedTuple):
    """One task with a seed: the marks of the fresh LoRA, then of its rivals."""

    name: str
    marks: Marks


def units_of(cells: Sequence[Cell]) -> list[Unit]:
    """Return the units that have every arm at 100 examples."""
    arms = (LORA, *RIVALS)
    marks = {(one.task, one.seed, one.arm): one.marks for one in cells if one.examples == 100}
    places = sorted({(task, seed) for task, seed, _ in marks})
    return [
        Unit(f"{task} {seed}", np.array([[*map(int, marks[task, seed, arm])] for arm in arms],
                                        dtype=np.int8))
        for task, seed in places
    ]  # fmt: skip


@cache
def exact(wins: int, losses: int, _questions: int) -> bool:
    """Whether the verdict replaces: McNemar's exact test, one-sided at 2.5 %."""
    return mcnemar(np.repeat([1.0, -1.0], [wins, losses])) <= ALPHA


@cache
def resampled(wins: int, losses: int, questions: int) -> bool:
    """Whether the verdict before did: the paired bootstrap's lower end is above 0."""
    gaps = np.repeat([1.0, -1.0, 0.0], [wins, losses, questions - wins - losses])
    return difference(gaps.tolist(), [0.0] * questions, seed=SEED).low > 0.0


def replaced(unit: Unit, n: int, gain: float, rule: Rule, *, rivals: int = 1) -> float:
    """Return the share of jobs in which a rival replaces the fresh LoRA.

    Args:
        unit: whose marks are drawn.
        n: prompts of a job.
        gain: the true one of the first rival, a share.
        rule: of the verdict.
        rivals: the first so many; any of them may replace.
    """
    rng = np.random.default_rng([SEED, n, round(1000 * gain), rivals])
    arms = unit.marks[: rivals + 1]
    drawn = arms[:, rng.integers(arms.shape[1], size=(JOBS, n))]  # (arms, JOBS, n)
    drawn = rng.permuted(drawn, axis=0)
    if gain:
        chance = gain / (1 - arms.mean())
        drawn[1] |= rng.random((JOBS, n)) < chance
    wins, losses = ((drawn[1:] > drawn[0]).sum(-1), (drawn[1:] < drawn[0]).sum(-1))
    better = [
        any(rule(int(won), int(lost), n) for won, lost in zip(*job, strict=True))
        for job in zip(wins.T, losses.T, strict=True)
    ]
    return float(np.mean(better))


def stated(unit: Unit, n: int) -> float:
    """Return the smallest visible gain that a verdict on n prompts of a unit states, a share."""
    way = round(n * float((unit.marks[0] != unit.marks[1]).mean()) / 2)
    return visible_share(np.repeat([1.0, -1.0, 0.0], [way, way, n - 2 * way]))


def nats_replaced(gaps: Sequence[float], n: int, *, centred: bool, jobs: int = 1000) -> float:
    """Return the share of draws of n gaps in nats that the sign-flip test calls gains.

    Args:
        gaps: of one job, question by question.
        n: questions of a draw.
        centred: whether the mean gap is taken off; else each gap has its sign by a coin, as if the
            two arms were swapped.
        jobs: draws.
    """
    rng, values = np.random.default_rng([SEED, n]), np.asarray(gaps)
    drawn = values[rng.integers(len(values), size=(jobs, n))]
    drawn = drawn - values.mean() if centred else drawn * rng.choice([-1.0, 1.0], size=(jobs, n))
    return sum(sign_flip(row, seed=at) <= ALPHA for at, row in enumerate(drawn)) / jobs
