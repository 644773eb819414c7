"""What it costs to train eleven layers of thirty: `python -m tests.lab.skills.placement`.

Trains one skill with adapters on other layers and modules, all from the same examples, and prints
a table of size, time, validation loss and accuracy. Resumable; about an hour of one core.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from merge.peft_format.atomic_files import write_atomic
from server.cli.demo_base import demo_base
from tests.lab.make_skills import WORK, say
from tests.lab.merging.adapters import read_update
from tests.lab.skills import SKILLS
from tests.lab.skills.evaluate import Examiner
from tests.lab.skills.train import PLANS, Plan, Training, save_adapter, validation_loss

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
STEPS = 100
TESTS = 100
VARIANTS = {
    "every second layer from 9 to 29": Plan(steps=STEPS),
    "layers 19 to 29": Plan(steps=STEPS, layers=tuple(range(19, 30))),
    "attention of all layers": Plan(steps=STEPS, modules=ATTENTION, layers=tuple(range(30))),
    "all linear modules": Plan(steps=STEPS, layers=tuple(range(30))),
    "all linear modules, rank 3": Plan(steps=STEPS, rank=3, alpha=6, layers=tuple(range(30))),
}


def measure(base: Path, skill: str, variant: str, work: Path) -> dict[str, float]:
    """Train a variant and return its figures, unless they are there."""
    folder = work / "placement" / skill / variant.replace(" ", "-")
    file = folder / "figures.json"
    if file.exists():
        figures: dict[str, float] = json.loads(file.read_text())
        return figures
    plan = replace(VARIANTS[variant], rate=PLANS[skill].rate)
    training = Training(base, SKILLS[skill], plan, folder)
    training.run(lambda course: say(f"{variant}: {asdict(course)}") if course.step == 1 else None)
    save_adapter(training.model, folder / "adapter")
    examples = SKILLS[skill].examples("test", TESTS, seed=1)
    figures = {
        "megabytes": (folder / "adapter" / "adapter_model.safetensors").stat().st_size / 1e6,
        "seconds": training.course.cpu_seconds / plan.steps,
        "loss": validation_loss(training),
        "right": Examiner(base).exact_share(read_update(folder / "adapter"), 1.0, examples),
    }
    write_atomic(file, json.dumps(figures) + "\n")
    return figures


def main() -> None:
    """Measure every variant and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skill", choices=list(SKILLS), default="iso")
    parser.add_argument("--work", type=Path, default=WORK)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    base = demo_base(report=say)
    say("| adapter on | MB | CPU s a step | validation loss | right |")
    for variant in VARIANTS:
        row = measure(base, arguments.skill, variant, arguments.work)
        say(
            f"| {variant} | {row['megabytes']:.1f} | {row['seconds']:.1f} | {row['loss']:.3f} "
            f"| {row['right']:.0%} |"
        )


if __name__ == "__main__":
    main()
