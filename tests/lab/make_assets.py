"""Make the demo's assets: `python -m tests.lab.make_assets --out deploy/demo`.

Covered: the command line, the stages and their progress, `accuracy.json`.
Not covered: what a stage does (`train_base.py`, `train_adapters.py`, `evaluate.py`, `cards.py`).
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rich
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.lab.cards import adapter_card, questions, readme, write_json
from tests.lab.evaluate import accuracy, load_adapters, load_base, sum_accuracies
from tests.lab.language import (
    TASKS,
    draw_examples,
    draw_explicit,
    lexicon_draw,
    make_lexicon,
)
from tests.lab.train_adapters import PLANS, AdapterPlan, save_adapter, train_adapter
from tests.lab.train_base import BasePlan, base_draw, save_base, train_base

STAGES = ("base", "adapters", "evaluate")
BASE_TESTS = 1000  # half in skill words, half with words of the lexicon
ADAPTER_TESTS = 200
TEST_SEED = 1
LOGGED_EVERY = 50


class Figures:
    """The contents of `accuracy.json`, of which every stage writes its part."""

    def __init__(self, folder: Path) -> None:
        """Take over what earlier stages wrote into the folder."""
        self.path = folder / "accuracy.json"
        self.content: dict[str, Any] = {"date": "", "versions": {}, "base": {}, "adapters": {}}
        if self.path.exists():
            self.content.update(json.loads(self.path.read_text()))

    def save(self) -> None:
        """Write everything, with today's date and the versions at work."""
        self.content["date"] = datetime.now(UTC).date().isoformat()
        self.content["versions"] = {
            package: version(package) for package in ("torch", "transformers", "peft")
        }
        write_json(self.path, self.content)


@contextmanager
def reporting(title: str, steps: int) -> Iterator[Callable[[float], None]]:
    """A progress bar told of each step's loss; plain lines where there is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(title, total=steps)

        def report(loss: float) -> None:
            description = f"{title} loss {loss:.3f}"
            progress.update(bar, advance=1, description=description)
            done = int(progress.tasks[bar].completed)
            if not progress.console.is_terminal and done % LOGGED_EVERY == 0:
                progress.console.print(f"{description} {done}/{steps}")

        yield report


def make_base(out: Path, plan: BasePlan, figures: Figures) -> None:
    """Train and store the base."""
    start = time.monotonic()
    with reporting("base", plan.steps) as report:
        model = train_base(plan, report)
    save_base(model, out / "base")
    figures.content["base"] = {
        **asdict(plan),
        "parameters": model.num_parameters(),
        "wall_seconds": round(time.monotonic() - start, 1),
    }
    figures.save()


def make_adapters(
    out: Path, plans: list[AdapterPlan], base_plan: BasePlan, figures: Figures
) -> None:
    """Train and store the adapters, one after the other."""
    for plan in plans:
        start = time.monotonic()
        with reporting(plan.name, plan.steps) as report:
            model = train_adapter(out / "base", plan, base_draw(base_plan), report)
        save_adapter(model, out / "adapters" / plan.name)
        figures.content["adapters"][plan.name] = {
            **asdict(plan),
            "wall_seconds": round(time.monotonic() - start, 1),
        }
        figures.save()


def evaluate(out: Path, base_plan: BasePlan, figures: Figures) -> None:
    """Measure what is stored and write it down, in JSON and in prose."""
    start = time.monotonic()
    evaluate_base(out, base_plan, figures)
    examples = {name: task.prompts(ADAPTER_TESTS, TEST_SEED) for name, task in TASKS.items()}
    model = load_adapters(load_base(out / "base"), [out / "adapters" / name for name in TASKS])
    for name, tests in examples.items():
        model.set_adapter(name)
        scores = figures.content["adapters"][name]
        scores["accuracy"] = accuracy(model, tests)
        with model.disable_adapter():
            scores["base_accuracy"] = accuracy(model, tests)
        rich.print(f"{name}: {scores['accuracy']:.3f}, base alone {scores['base_accuracy']:.3f}")
    figures.content["exact_sums"] = sum_accuracies(model, examples)
    figures.content["evaluation"] = {
        "seed": TEST_SEED,
        "tests_each": ADAPTER_TESTS,
        "wall_seconds": round(time.monotonic() - start, 1),
    }
    figures.save()
    write_words(out, figures.content)


def evaluate_base(out: Path, plan: BasePlan, figures: Figures) -> None:
    """Measure the base on its own prompts."""
    base = load_base(out / "base")
    lexicon = lexicon_draw(make_lexicon(plan.lexicon_size, plan.seed))
    scores = {
        kind: accuracy(base, draw_examples(draw, BASE_TESTS // 2, seed=f"{kind}/{TEST_SEED}"))
        for kind, draw in (("explicit", draw_explicit), ("lexicon", lexicon))
    }
    rich.print(f"base: {scores}")
    figures.content["base"]["accuracy"] = scores


def write_words(out: Path, content: dict[str, Any]) -> None:
    """Write the cards, the questions and the README."""
    for name, plan in PLANS.items():
        card = adapter_card(plan, content["adapters"][name], ADAPTER_TESTS)
        (out / "adapters" / name / "README.md").write_text(card)
    write_json(out / "questions.json", questions())
    (out / "README.md").write_text(readme(content, list(PLANS.values())))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--only", nargs="+", choices=list(PLANS), default=list(PLANS))
    parser.add_argument("--seed", type=int, default=BasePlan().seed, help="of the base")
    parser.add_argument("--base-steps", type=int, default=BasePlan().steps)
    parser.add_argument("--adapter-steps", type=int, help="instead of each plan's own")
    return parser.parse_args()


def main() -> None:
    """Run the chosen stages in order."""
    arguments = parse_arguments()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = Figures(arguments.out)
    base_plan = BasePlan(seed=arguments.seed, steps=arguments.base_steps)
    plans = [PLANS[name] for name in arguments.only]
    if arguments.adapter_steps:
        plans = [replace(plan, steps=arguments.adapter_steps) for plan in plans]
    if "base" in arguments.stages:
        make_base(arguments.out, base_plan, figures)
    if "adapters" in arguments.stages:
        make_adapters(arguments.out, plans, base_plan, figures)
    if "evaluate" in arguments.stages:
        evaluate(arguments.out, base_plan, figures)


if __name__ == "__main__":
    main()
