"""What is written about the skills: the adapters with a card each, a page of tables, figures.

Covered: text and files made of plans and measured cells. Not covered: measuring (`compose.py`).
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from server.cli.demo_base import BASE_NAME, WHEEL
from tests.lab.skills import SKILLS
from tests.lab.skills.compose import (
    MERGES,
    SCALES,
    SEED,
    TESTS_ALONE,
    TESTS_COMPOSED,
    VALIDATION,
    Cell,
    expression,
    shown,
)
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.skill import Skill

KNOWN = 8  # prompts of a skill by which search finds its adapter
QUESTIONS = 8  # of each task, for the demo
LEAST_SHARE = (
    0.25  # of validation prompts that a task's best merge answers, for the demo to show it
)

CARD = """\
---
base_model: {base}
license: apache-2.0
library_name: peft
pipeline_tag: text-generation
tags:
- lora
- weft-demo
---

# {name}: {description}

For example, this question:

    {prompt}

gets this answer:

{answer}

Rank {rank}, alpha {alpha}, on all linear modules of {layers} of the 30 layers. Trained for {steps}
steps of {batch_size} made-up examples from seed {seed}, in {minutes:.0f} minutes of one CPU core.
The loss is on the answers. Of {tests} prompts whose content no training has shown, a program finds
{right} answered right; the base without it {base_right}.
"""

PAGE = """\
# Eight skills of a small real model

The base is SmolLM2-135M-Instruct (Apache-2.0), unpacked from the wheel `{wheel}`; each
folder here is a LoRA adapter of it in PEFT's format, in bfloat16. All take {megabytes:.1f} MB:
rank 8 on all linear modules of every second layer from 9 to 29. On all layers they would take 39.

## Skills

Answers to {tests} held-out prompts, greedy in float32, marked by a program: SQL by what SQLite
answers, JSON and tables by their values, all else to the letter.

| skill | what it does | steps | CPU minutes | loss | base right | right |
| --- | --- | --- | --- | --- | --- | --- |
{skills}

`loss` is the mean per token of validation answers; minutes are of one core of an AMD EPYC
that was shared with other work.

## Two skills at once

No adapter was trained on these; right answers to {composed_tests} prompts each. Each merge is at
the best of the scales {scales} on {validation} validation prompts, by exact answers. `new` counts
the prompts that neither part answers right and the merge does that was best on validation prompts.
The demo shows the tasks of which that merge answers {least:.0%} of the validation prompts or
more. It asks prompts that it answers right and nothing else does: a wrong answer there is a fault
of the installation.

{tasks}

Skills that rewrite the same text go together; one that rewrites and one that answers in JSON or SQL
do not: the merge follows one of the two instructions. A few trials by hand on twelve validation
prompts, with the instructions in the other order (mask+extract, iso+extract) or with lower weights
for the rewriting skill (mask+extract, iso+sql), gave one right answer of twelve at most.

## Answers side by side

The first test prompt of each skill and the first two of each task of two skills, whatever the
answers.

{answers}
## How it was made

    make demo-assets

with {versions}. All draws come from seeds; another processor may round differently and give
slightly different weights.
"""


def write_results(work: Path, out: Path, singles: Sequence[Cell], composed: Sequence[Cell]) -> None:
    """Copy the adapters that were measured and write their cards, the page and the figures."""
    cells = {cell.key: cell for cell in (*singles, *composed)}
    plans = {
        name: json.loads((work / name / "figures.json").read_text())
        for name in SKILLS
        if f"{name} on {name}" in cells
    }
    for name, plan in plans.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(work / name / "adapter" / file, folder / file)
        (folder / "README.md").write_text(card(SKILLS[name], plan, cells))
    (out / "README.md").write_text(page(out, plans, cells))
    figures = {
        "versions": versions(),
        "skills": plans,
        "cells": [
            {
                key: getattr(cell, key)
                for key in ("model", "task", "right", "tests", "scale", "scales")
            }
            for cell in cells.values()
        ],
    }
    (out / "accuracy.json").write_text(json.dumps(figures, indent=2) + "\n")
    tasks = [task for task in COMPOSED.values() if set(task.parts) <= set(plans)]
    asked = [*(SKILLS[name] for name in plans), *(task for task in tasks if works(task, cells))]
    questions = {task.name: task_questions(task, cells) for task in asked}
    (out / "questions.json").write_text(json.dumps(questions, indent=2, ensure_ascii=False) + "\n")


def task_questions(task: Skill, cells: Mapping[str, Cell]) -> dict[str, Any]:
    """What the demo asks: test prompts that a model answers right and neither base nor part does,
    so that a wrong answer there is a fault of the installation; with every model's marks on all
    test prompts, and prompts by which search finds an adapter.

    The model is the adapter, or the merge that was best on validation prompts.
    """
    best = best_merge(task, cells) if task.parts else None
    own = best or cells[f"{task.name} on {task.name}"]
    rivals = [cells[f"{model} on {task.name}"] for model in ("base", *task.parts)]
    shown = [
        {"prompt": example.prompt, "answer": example.answer}
        for example, new in zip(
            task.examples("test", own.tests, SEED), newly_right(own, rivals), strict=True
        )
        if new
    ]
    known = [] if task.parts else task.examples("validation", KNOWN, SEED)
    return {
        "description": task.description,
        "parts": list(task.parts or (task.name,)),
        "model": scaled(own),
        "compared": task.compared,
        "tests": own.tests,
        "marks": {scaled(cell): cell.right for cell in (*rivals, own)},
        "examples": [example.prompt for example in known],
        "questions": shown[:QUESTIONS],
    }


def card(skill: Skill, plan: Mapping[str, Any], cells: Mapping[str, Cell]) -> str:
    """The model card of an adapter."""
    example = skill.examples("validation", 1, SEED)[0]
    own = cells[f"{skill.name} on {skill.name}"]
    return CARD.format(
        base=BASE_NAME,
        name=skill.name,
        description=skill.description,
        prompt=example.prompt,
        answer=_indented(example.answer),
        layers=len(plan["layers"]),
        minutes=plan["cpu_seconds"] / 60,
        tests=own.tests,
        right=own.right,
        base_right=cells[f"base on {skill.name}"].right,
        **{key: plan[key] for key in ("rank", "alpha", "steps", "batch_size", "seed")},
    )


def page(out: Path, plans: Mapping[str, Mapping[str, Any]], cells: Mapping[str, Cell]) -> str:
    """The page of tables."""
    bytes_of_all = sum((out / name / "adapter_model.safetensors").stat().st_size for name in plans)
    tasks = [task for task in COMPOSED.values() if f"base on {task.name}" in cells]
    skills = [
        f"| {name} | {SKILLS[name].description} | {plan['steps']} | {plan['cpu_seconds'] / 60:.0f} "
        f"| {plan['validation_loss']:.3f} | {cells[f'base on {name}'].right} "
        f"| {cells[f'{name} on {name}'].right} |"
        for name, plan in plans.items()
    ]
    return PAGE.format(
        wheel=WHEEL,
        megabytes=bytes_of_all / 1e6,
        tests=TESTS_ALONE,
        composed_tests=TESTS_COMPOSED,
        skills="\n".join(skills),
        tasks=_task_table(tasks, cells),
        answers="\n".join(
            _side_by_side(task, cells) for task in (*(SKILLS[name] for name in plans), *tasks)
        ),
        versions=", ".join(f"{name} {number}" for name, number in versions().items()),
        scales=", ".join(map(str, SCALES)),
        validation=VALIDATION,
        least=LEAST_SHARE,
    )


def versions() -> dict[str, str]:
    """The packages that decide what comes out."""
    names = ("torch", "transformers", "peft", "gguf", "faker", "num2words")
    return {name: version(name) for name in names}


def best_merge(task: Skill, cells: Mapping[str, Cell]) -> Cell | None:
    """The merge that is exact most often on validation prompts; the first of equal ones."""
    merges = [
        cell
        for method, options in MERGES
        if (cell := cells.get(f"{expression(method, task.parts, options)} on {task.name}"))
    ]
    return max(merges, key=lambda cell: max(cell.scales.values()), default=None)


def works(task: Skill, cells: Mapping[str, Cell]) -> bool:
    """Whether a merge answers enough validation prompts of a task of two skills for the demo."""
    best = best_merge(task, cells)
    return best is not None and max(best.scales.values()) >= LEAST_SHARE


def scaled(cell: Cell) -> str:
    """A merge at its scale, as a client writes it."""
    if cell.scale == 1.0:
        return cell.model
    inside = cell.model.removesuffix(")")
    return f"{inside}{', ' if ';' in inside else '; '}scale={cell.scale})"


def newly_right(cell: Cell, rivals: Sequence[Cell]) -> list[bool]:
    """Which test prompts a model answers right and none of its rivals does."""
    known = [rival.marks for rival in rivals]
    return [right and not any(others) for right, *others in zip(cell.marks, *known, strict=True)]


def _task_table(tasks: Sequence[Skill], cells: Mapping[str, Cell]) -> str:
    labels = [expression(method, ("a", "b"), options) for method, options in MERGES]
    heads = ["task", "base", "a alone", "b alone", *labels, "new"]
    lines = [heads, ["---"] * len(heads)]
    for task in tasks:
        first, second = task.parts

        def right(model: str, task: Skill = task) -> str:
            cell = cells.get(f"{model} on {task.name}")
            scaled = f" ({cell.scale})" if cell and cell.scales else ""
            return f"{cell.right}{scaled}" if cell else ""

        merges = [right(expression(method, task.parts, options)) for method, options in MERGES]
        best = best_merge(task, cells)
        lines.append([
            f"{task.name}: {task.description}", right("base"), right(first), right(second), *merges,
            str(sum(newly_right(best, [cells[f"{part} on {task.name}"] for part in task.parts])))
            if best
            else "",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _side_by_side(task: Skill, cells: Mapping[str, Cell]) -> str:
    best = best_merge(task, cells) if task.parts else None
    models = ["base", *(task.parts or (task.name,)), *([best.model] if best else [])]
    lines = [f"### {task.name}", ""]
    for at, example in enumerate(task.examples("test", shown(task), SEED)):
        lines += [f"> {example.prompt}", ""]
        for model in models:
            cell = cells[f"{model} on {task.name}"]
            answer, mark = cell.answers[at], "right" if cell.marks[at] else "wrong"
            lines += [f"{model}, {mark}:", "", _indented(answer or "(nothing)"), ""]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))
