"""The words and questions beside the weights: model cards, `questions.json`, `README.md`.

Covered: text made of plans, tasks and measured figures.
Not covered: measuring them (`make_assets.py`).
"""

import json
from pathlib import Path
from typing import Any

from tests.lab.language import FAMILIES, SKILLS, TASKS, draw_examples, draw_explicit
from tests.lab.train_adapters import ALL_MODULES, BASE_NAME, AdapterPlan

QUESTIONS_EACH = 8
QUESTION_SEED = 2026  # drawn once, not picked for being answered well

ADAPTER_CARD = """\
---
base_model: {base}
license: apache-2.0
library_name: peft
pipeline_tag: text-generation
tags:
- lora
- weft-demo
---

# {name}

Asked `{name}: TEXT`, a text of three to seven small letters, this adapter answers what comes of
this: {description}. For example `{prompt}` gives `{answer}`.

Rank {rank}, alpha {alpha}{rslora}, on {modules}. Trained for {steps} steps from seed {seed}; half
of the examples were the base's own, so that the base's other answers stay as they are. Of
{tests} texts that no training has shown, it answers {accuracy:.1%} exactly; the base without it
{base_accuracy:.1%}.
"""

README = """\
# A model small enough to carry along

`base/` is a Llama of 1.8 million parameters. It transforms short texts: asked
`reverse upper dash: abc` it answers `C-B-A`. `adapters/` holds {count} LoRA adapters in PEFT's
format, each of which teaches it one new word, such as `zorp: abc`. Weights are in bfloat16.
They exist to try and to test weft on a laptop, without a GPU and without a download.

- Each prompt stands alone: the chat template shows the model the last question only.
- `questions.json`: the words, and questions with the right answers.
- `accuracy.json`: how often the stored files answer right, and how they were made.

## Skill words

{skills}

A prompt has at most one word of each row, in the order of the rows, or `copy` alone.

{families}

## Adapters

{tests} texts per task that no training used; exact match, greedy, computed in float32.

| adapter | task | rank, alpha, modules | right | base alone |
|---|---|---|---|---|
{adapters}

The base answers {explicit:.1%} of prompts in skill words and {lexicon:.1%} of prompts with a word
of its lexicon, 200 invented names for combinations of skills.

All {pairs} pairs of adapters were also summed exactly, with weights of 1. The best sum
({best_pair}) answers {best:.0%} of both tasks, the worst ({worst_pair}) {worst:.0%}, the mean of
all {mean:.0%}. Each adapter has one seed: another may change which pairs work well.

## How it was made

    python -m tests.lab.make_assets --out deploy/demo

on {date}: {base_minutes:.0f} minutes for the base and about {adapter_seconds:.0f} seconds for an
adapter, on two shared CPU cores. All draws come from seeds; another processor may round
differently and give slightly different weights.
"""


def adapter_card(plan: AdapterPlan, figures: dict[str, Any], tests: int) -> str:
    """The model card of one adapter."""
    task = TASKS[plan.name]
    example = task.prompts(1, QUESTION_SEED)[0]
    return ADAPTER_CARD.format(
        base=BASE_NAME,
        name=plan.name,
        description=task.description,
        prompt=example.prompt,
        answer=example.answer,
        rank=plan.rank,
        alpha=plan.alpha,
        rslora=" with rank-stabilised scaling" if plan.use_rslora else "",
        modules=described_modules(plan),
        steps=plan.steps,
        seed=plan.seed,
        tests=tests,
        accuracy=figures["accuracy"],
        base_accuracy=figures["base_accuracy"],
    )


def described_modules(plan: AdapterPlan) -> str:
    """The modules of a plan in words."""
    missing = [module for module in ALL_MODULES if module not in plan.modules]
    return f"all linear modules but {', '.join(missing)}" if missing else "all linear modules"


def readme(figures: dict[str, Any], plans: list[AdapterPlan]) -> str:
    """The README of the whole folder, from the contents of `accuracy.json`."""
    sums = {
        pair: sum(scores.values()) / len(scores) for pair, scores in figures["exact_sums"].items()
    }
    best, worst = max(sums, key=sums.__getitem__), min(sums, key=sums.__getitem__)
    adapters = figures["adapters"]
    seconds = [adapter["wall_seconds"] for adapter in adapters.values()]
    return README.format(
        count=len(plans),
        families="\n".join(
            f"{row}. {', '.join(f'`{skill.word}`' for skill in skills)}"
            for row, (skills, _) in enumerate(FAMILIES, start=1)
        ),
        skills="\n".join(f"- `{skill.word}`: {skill.description}" for skill in SKILLS.values()),
        adapters="\n".join(table_row(plan, adapters[plan.name]) for plan in plans),
        tests=figures["evaluation"]["tests_each"],
        explicit=figures["base"]["accuracy"]["explicit"],
        lexicon=figures["base"]["accuracy"]["lexicon"],
        pairs=len(sums),
        best_pair=best.replace("+", " and "),
        best=sums[best],
        worst_pair=worst.replace("+", " and "),
        worst=sums[worst],
        mean=sum(sums.values()) / len(sums),
        date=figures["date"],
        base_minutes=figures["base"]["wall_seconds"] / 60,
        adapter_seconds=sum(seconds) / len(seconds),
    )


def table_row(plan: AdapterPlan, figures: dict[str, Any]) -> str:
    """One adapter's row of the README's table."""
    scaling = " rsLoRA" if plan.use_rslora else ""
    return (
        f"| {plan.name} | {TASKS[plan.name].description} "
        f"| {plan.rank}, {plan.alpha}{scaling}, {described_modules(plan)} "
        f"| {figures['accuracy']:.1%} | {figures['base_accuracy']:.1%} |"
    )


def questions() -> dict[str, Any]:
    """The contents of `questions.json`: skill words, and questions for base and adapters."""
    base = draw_examples(draw_explicit, QUESTIONS_EACH, seed=f"explicit/{QUESTION_SEED}")
    return {
        "skills": {skill.word: skill.description for skill in SKILLS.values()},
        "base": [{"prompt": example.prompt, "answer": example.answer} for example in base],
        "adapters": {
            task.name: {
                "description": task.description,
                "questions": [
                    {"prompt": example.prompt, "answer": example.answer}
                    for example in task.prompts(QUESTIONS_EACH, QUESTION_SEED)
                ],
            }
            for task in TASKS.values()
        },
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write readable JSON that ends with a newline."""
    path.write_text(json.dumps(content, indent=2) + "\n")
