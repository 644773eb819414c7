"""How a job measures: folds where they fit the budget, and what they would cost where not."""

from pathlib import Path

import pytest

from merge.adaptive.model.hooks import freeze
from merge.adaptive.options import Options, OptionsInvalid
from merge.adaptive.plan import FOLDS, Plan, decide, time_of_step, training_steps
from tests.merge.adaptive.small import random_examples
from tests.merge.llama import tiny_llama


def plan(step_seconds: float, *, validated: bool = False, **options: object) -> Plan:
    """Return the plan of a job of 100 examples whose training steps take so long."""
    made = Options.parse(options)
    return decide(made, 100, validated=validated, step_seconds=lambda: step_seconds)


def test_folds_follow_the_budget() -> None:
    """Five folds are learned if their trainings are predicted to fit the hours; else none, and the
    prediction is kept."""
    steps = training_steps(Options(), 100)
    assert Plan(FOLDS, round(5 * steps * 0.2, 1)) == plan(0.2)
    assert Plan(0, round(5 * steps * 5.0, 1)) == plan(5.0)
    assert FOLDS == plan(5.0, fold_hours=8).folds


def test_folds_that_were_asked_for_are_learned() -> None:
    """A number of folds is followed without timing; validation examples measure without folds."""
    assert [Plan(3), Plan(0)] == [plan(1e9, folds=3), plan(0.0, folds=0)]
    assert Plan(0) == plan(0.0, validated=True)
    with pytest.raises(OptionsInvalid, match="leave folds out, or the validation examples"):
        plan(0.0, validated=True, folds=5)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 2 * 400 + 100 + 2 * 100),  # two fresh LoRAs, one retuned, the method and at random
        ({"k": [2, 5]}, 2 * 400 + 100 + 4 * 100),
        ({"reality_check": False}, 400 + 100),
        ({"reality_check": False, "target": False}, 100),
        ({"reality_check": False, "method": "lorahub", "target": False}, 13 * 100 / 3),
    ],
)
def test_the_cost_is_counted_in_steps(options: dict[str, object], steps: float) -> None:
    """Every training of a fold is counted, and an evaluation of the loss as a third of a step."""
    assert steps == pytest.approx(training_steps(Options.parse(options), 100))


def test_a_plan_is_kept(tmp_path: Path) -> None:
    """A resumed job has the plan that it began with; a new one has none."""
    assert Plan.load(tmp_path) is None
    Plan(5, 12.5).save(tmp_path)
    assert Plan(5, 12.5) == Plan.load(tmp_path)


def test_a_step_is_timed_on_the_base() -> None:
    """The time is that of one step of a fresh LoRA, and the base is left as it was."""
    model = freeze(tiny_llama())
    options = Options(batch_size=2)
    assert 0.0 < time_of_step(model, random_examples(4, seed=1), options, 2) < 60.0
    assert not any(parameter.requires_grad for parameter in model.parameters())
