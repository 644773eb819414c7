"""The losses that a job's events tell, and their chart."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from server.console.api.jobs import JobEvent, Step
from server.console.pages.jobs.loss_chart import LOSS_COLUMNS, loss_options, loss_points
from server.console.pages.jobs.losses import Curve, Losses, Point, curves_of
from tests.server.jobs.conftest import candidate


def step(stage: str, number: int, train: float | None, valid: float | None = None) -> Step:
    """Return a step of ten."""
    return Step(stage=stage, step=number, steps=10, train_loss=train, valid_loss=valid)


def test_folds_are_one_curve_with_a_band() -> None:
    """The trainings of a candidate's folds are one curve: their mean, their lowest and highest."""
    losses = Losses()
    losses.add(step("recycle, fold 1 of 2", 5, 2.0, 1.0))
    losses.add(step("recycle, fold 2 of 2", 5, 4.0, 3.0))
    assert losses.curves() == (Curve("recycle", 10, 2, (Point(5, 3.0, 2.0, 1.0, 3.0),)),)


def test_a_repeated_step_replaces_itself() -> None:
    """A job that resumes from a checkpoint tells steps again: the last loss of a step stands."""
    losses = Losses()
    losses.add(step("fresh_lora", 1, 9.0))
    losses.add(step("fresh_lora", 1, 2.0))
    (curve,) = losses.curves()
    assert curve.points == (Point(1, 2.0, None, None, None),)


def test_steps_without_a_loss_are_no_points() -> None:
    """The evaluations of a pool's members have no loss, and no curve."""
    losses = Losses()
    losses.add(step("evaluation", 1, None))
    assert losses.curves() == ()


@pytest.mark.parametrize(
    ("kind", "data"),
    [("message", {"pid": 7}), ("candidate", {"candidate": "base", "figures": {}})],
)
def test_only_steps_are_steps(kind: str, data: dict[str, Any]) -> None:
    """Messages and measured candidates are no steps of a training."""
    event = JobEvent(id=1, at=datetime.now(UTC), level="info", kind=kind, message="m", data=data)
    assert event.step is None
    assert (event.measured is None) == (kind == "message")


def test_a_report_has_its_curves() -> None:
    """A report's curves are those of its candidates that were trained."""
    base = {**candidate("base", {"kind": "base"}, 0.1), "curve": []}
    made: list[Any] = [base, candidate("recycle", {"kind": "base"}, 0.6)]
    (curve,) = curves_of(made)
    assert (curve.name, curve.steps) == ("recycle", 2)
    assert curve.points[1] == Point(2, 1.5, 1.8, 1.8, 1.8)


def test_the_chart_has_a_line_and_a_band_for_a_candidate() -> None:
    """A candidate has a validation line, a training line and, if it has folds, a band."""
    plain = Curve("scale", 10, 1, (Point(5, 3.0, 2.0, 2.0, 2.0), Point(10, 2.0, 1.5, 1.5, 1.5)))
    folded = Curve("recycle", 10, 2, (Point(5, 3.0, 2.0, 1.0, 3.0),))
    options = loss_options((plain, folded))
    json.dumps(options, allow_nan=False)
    valid, train, _, _, low, width = options["series"]
    assert valid["data"] == [[50.0, 2.0], [100.0, 1.5]]
    assert train["data"] == [[50.0, 3.0], [100.0, 2.0]]
    assert (low["data"], width["data"]) == ([[50.0, 1.0]], [[50.0, 2.0]])
    assert low["stack"] == width["stack"]


def test_a_long_training_is_thinned() -> None:
    """The chart of a long training has at most a few hundred points, with the last one."""
    points = tuple(Point(number, 1.0, None, None, None) for number in range(1, 10_001))
    _, train = loss_options((Curve("fresh_lora", 10_000, 1, points),))["series"]
    assert len(train["data"]) <= 401
    assert train["data"][-1] == [100.0, 1.0]


def test_the_table_has_every_point() -> None:
    """The table beside the chart has each step with the numbers that the chart draws."""
    (row,) = loss_points((Curve("recycle", 10, 2, (Point(5, 3.0, 2.0, 1.0, 3.0),)),))
    assert [column.value(row) for column in LOSS_COLUMNS] == ["recycle", 5, 3.0, 2.0, 1.0, 3.0]
