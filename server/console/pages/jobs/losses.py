"""The losses of a job's trainings: collected from its events while it runs, or from its report.

A job that measures by folds trains each candidate once for every fold and once on everything; these
trainings are one curve, with a band from the lowest to the highest of their validation losses.
Not covered: how events are received (`follow`), how a curve is drawn (`loss_chart`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from server.console.api.jobs import Step
from server.jobs.report import CandidateJson


class Point(NamedTuple):
    """The losses at one step, in nats per answer token: means over the trainings of the curve."""

    step: int
    train: float | None
    valid: float | None
    low: float | None  # the lowest and the highest validation loss
    high: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """The losses of one candidate."""

    name: str
    steps: int  # of a whole training
    trainings: int
    points: tuple[Point, ...]


class _Losses(NamedTuple):
    train: float | None
    valid: float | None


@dataclass(slots=True)
class Losses:
    """The losses that a job's events have told so far."""

    _steps: dict[str, int] = field(default_factory=dict)
    _told: dict[str, dict[str, dict[int, _Losses]]] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Take a step of a training; one without a loss is no point.

        A job that resumes from a checkpoint tells the steps after it again: the last one stands.
        """
        if step.train_loss is None and step.valid_loss is None:
            return
        name, _, part = step.stage.partition(", ")
        self._steps[name] = max(step.steps, self._steps.get(name, 0))
        training = self._told.setdefault(name, {}).setdefault(part, {})
        training[step.step] = _Losses(step.train_loss, step.valid_loss)

    def curves(self) -> tuple[Curve, ...]:
        """Return the curve of each candidate, in the order in which their trainings began."""
        return tuple(
            Curve(name, self._steps[name], len(trainings), _points(trainings.values()))
            for name, trainings in self._told.items()
        )


def curves_of(candidates: Iterable[CandidateJson]) -> tuple[Curve, ...]:
    """Return the curves in a report; its candidates without a training have none."""
    return tuple(
        Curve(
            candidate["name"], curve[-1][0], 1,
            tuple(Point(step, train, valid, valid, valid) for step, train, valid in curve),
        )
        for candidate in candidates
        if (curve := candidate["curve"])
    )  # fmt: skip


def _points(trainings: Iterable[Mapping[int, _Losses]]) -> tuple[Point, ...]:
    by_step: dict[int, list[_Losses]] = defaultdict(list)
    for training in trainings:
        for number, step in training.items():
            by_step[number].append(step)
    return tuple(_point(number, by_step[number]) for number in sorted(by_step))


def _point(number: int, steps: Iterable[_Losses]) -> Point:
    train = [step.train for step in steps if step.train is not None]
    valid = [step.valid for step in steps if step.valid is not None]
    return Point(
        number, fmean(train) if train else None, fmean(valid) if valid else None,
        min(valid, default=None), max(valid, default=None),
    )  # fmt: skip
