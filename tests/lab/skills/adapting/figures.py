"""From cells to answers: paired differences with their intervals, over questions and over units.

A unit is a skill with a seed. Agresti and Min's interval over questions, each with all seeds at
once, says what other questions would give with these trainings; it has a width where no answer
differs. Student's over units says what other examples and beginnings would, of such skills.

Covered: which rounds count, the figures of each question. Not covered: their layout (`results.py`).
"""

from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

import numpy as np

from merge.adaptive.scoring import bootstrap
from merge.adaptive.scoring.paired import share_gain
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import Wanted
from tests.lab.adapting.tables import Measured
from tests.lab.merging.intervals import Interval, difference
from tests.lab.skills.adapting.design import ARMS, BLIND, HELD_OUT, QUESTIONS, ROUNDS, Question


class Gap(NamedTuple):
    """Ours less theirs: shares of right answers, and nats per answer token."""

    question: Question
    over_questions: bootstrap.Interval
    over_units: Interval
    nats: Interval  # below 0 where ours is likelier

    @property
    def answer(self) -> str:
        """What the figures say, in a sentence."""
        gain, low, high = self.over_questions
        size = f"{_points(gain)}, between {_points(low)} and {_points(high)}."
        if low <= 0.0 <= high:
            return f"Cannot tell: {size}"
        word = "Yes" if gain > 0.0 else "No, it is worse"
        reach = "" if self.over_units.is_clear else " With other examples or skills: cannot tell."
        return f"{word}: {size}{reach}"


def rounds(cells: Iterable[Cell]) -> dict[int, Measured]:
    """The rounds of which no cell is missing, by number of examples; if none is whole, the first.

    Cells of arms that see no example stand in every round.
    """
    known = {Wanted(c.arm, c.task, c.seed, c.examples): c for c in cells}
    known |= {
        Wanted(c.arm, c.task, seed, examples): replace(c, seed=seed, examples=examples)
        for c in known.values()
        if c.arm in BLIND
        for seed, examples in ROUNDS
    }
    whole = [
        place
        for place in ROUNDS
        if all(Wanted(arm, task, *place) in known for arm in ARMS for task in HELD_OUT)
    ]
    counted = whole or ROUNDS[:1]
    measured = {}
    for number in dict.fromkeys(examples for _, examples in counted):
        kept = [c for place, c in known.items() if (place.seed, place.examples) in counted]
        measured[number] = Measured([c for c in kept if c.examples == number])
    return measured


def gaps(measured: Measured, examples: int) -> list[Gap]:
    """The figures of the questions whose arms are both complete."""
    return [
        gap(measured, examples, question)
        for question in QUESTIONS
        if {(question.ours, examples), (question.theirs, examples)} <= measured.places.keys()
    ]


def gap(measured: Measured, examples: int, question: Question) -> Gap:
    """Ours less theirs, paired by question and by unit."""
    arms = [measured.places[arm, examples] for arm in (question.ours, question.theirs)]
    by_task: dict[str, list[list[int]]] = {}
    for unit in measured.units:
        pairs = zip(*(cells[unit].marks for cells in arms), strict=True)
        by_task.setdefault(unit[0], []).append([int(a) - int(b) for a, b in pairs])
    by_question = [fmean(seeds) for units in by_task.values() for seeds in zip(*units, strict=True)]
    return Gap(
        question,
        share_gain(np.array(by_question)),
        difference(*([cells[unit].accuracy for unit in measured.units] for cells in arms)),
        difference(*([cells[unit].loss for unit in measured.units] for cells in arms)),
    )


def _points(share: float) -> str:
    return f"{100 * share:+.0f} points"
