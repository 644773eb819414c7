"""The adapters that are merged: those of the demo, and the same tasks trained from other seeds.

Covered: training what is missing, again where a training came out badly; where each one lies.
Not covered: how an adapter is trained (`train_adapters.py`).
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from merge.peft_format import open_folder
from merge.peft_io import read_peft
from tests.lab.cards import write_json
from tests.lab.language import TASKS
from tests.lab.merging.scoring import Exam, Lab, dense
from tests.lab.train_adapters import PLANS, AdapterPlan, save_adapter, train_adapter
from tests.lab.train_base import BasePlan, base_draw

DEMO = Path(__file__).parents[3] / "deploy" / "demo"
BASE = DEMO / "base"
ADAPTER_SEEDS = (0, 1, 2)  # 0: the demo's own

TESTS_EACH = 200
TEST_SEED = 1  # the demo's: its own figures are on the same prompts
GOOD = 0.95
ATTEMPTS = 3

Say = Callable[[str], None]


def adapter_folder(build: Path, seed: int, task: str) -> Path:
    """Where the adapter of a task lies that was trained from a seed."""
    return (DEMO / "adapters" if seed == 0 else build / f"seed-{seed}") / task


def ensure_adapters(build: Path, lab: Lab, say: Say) -> dict[int, dict[str, float]]:
    """Train what is not there yet; return how often each adapter answers its own task right."""
    accuracies = {0: _demo_accuracies()}
    for seed in ADAPTER_SEEDS[1:]:
        record = build / f"seed-{seed}" / "accuracy.json"
        known = json.loads(record.read_text()) if record.exists() else {}
        for task in TASKS:
            if task not in known:
                known[task] = _train_until_good(build, seed, task, lab, say)
                write_json(record, known)
        accuracies[seed] = {task: known[task]["accuracy"] for task in TASKS}
    return accuracies


def plan_for(task: str, seed: int, attempt: int) -> AdapterPlan:
    """The demo's plan of a task, from a training seed that no other plan has."""
    plan = PLANS[task]
    return replace(plan, seed=100 * seed + 10 * attempt + plan.seed)


def _train_until_good(
    build: Path, seed: int, task: str, lab: Lab, say: Say
) -> dict[str, float | int]:
    """Train from the next seed while the adapter is bad; the last attempt is kept as it is."""
    folder = adapter_folder(build, seed, task)
    exam = Exam.of({task: TASKS[task].prompts(TESTS_EACH, TEST_SEED)})
    for attempt in range(ATTEMPTS):
        plan = plan_for(task, seed, attempt)
        save_adapter(train_adapter(BASE, plan, base_draw(BasePlan()), lambda _: None), folder)
        accuracy = lab.marks(exam, read_update(folder), 1.0)[task]
        say(f"adapter {task} from seed {plan.seed}: {accuracy:.3f}")
        if accuracy >= GOOD:
            break
    return {"training_seed": plan.seed, "accuracy": accuracy}


def read_update(folder: Path) -> dict[str, Tensor]:
    """Return an adapter's dense updates by module."""
    opened = open_folder(folder)
    return dense({name: read_peft(opened, module) for name, module in opened.modules.items()})


def _demo_accuracies() -> dict[str, float]:
    figures = json.loads((DEMO / "accuracy.json").read_text())["adapters"]
    return {task: figures[task]["accuracy"] for task in TASKS}
