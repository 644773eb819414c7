"""The folder of results: README.md with tables and answers, and cells.json.

Covered: what is generated from cells, the answers in words too. Not covered: what they mean for
other bases and tasks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from tests.lab.adapting import tables
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.tables import Measured, clear, table
from tests.lab.skills import SKILLS
from tests.lab.skills.adapting.design import ARMS, BLIND, HELD_OUT, QUESTIONS
from tests.lab.skills.adapting.figures import Gap, gaps, rounds
from tests.lab.skills.adapting.measure import COMPARED_ON, OPTIONS, TESTS, protocol
from tests.lab.skills.merging.bootstrap import Span
from tests.lab.skills.merging.tables import bold

HEAD = """\
# Learning a new skill of SmolLM2-135M-Instruct over seven others

Made by `make lab-skills-adaptive`, text and all: the questions of arXiv 2602.12323 on a real base.
Each of these skills is held out in turn and learned from examples, over a pool of the adapters of
the other seven:

{skills}

**Protocol.** {tests} held-out questions a skill, the same for every arm and seed; an answer is
right if greedy decoding writes it to the letter. Of the examples, 80 % are learned from and 20 %
choose the step. Every training, of coefficients or of a LoRA, takes {steps} steps of {batch}
examples, where the paper gives coefficients 100 of 8 and the fresh LoRA 400: that would take most
of a day. The fresh LoRA has the rank, the rate and the modules of the pool's adapters. All seven
are merged, so nothing is selected; the best single one is found on the first {compared} training
examples. `{protocol}`

**Intervals.** All are 95 %. Beside means: ± Student's over units, a skill with a seed. Differences
are paired: "over questions" is Agresti and Min's, a question with all its seeds as one, and speaks
of these trainings; "over units" is Student's, and speaks of other examples and seeds of such
skills; bold where 0 is outside. Nats are per answer token; a difference below 0 is a gain. Of
{questions} comparisons one is clear by chance in every second table.
"""
ROUND = """\
## {n} examples

{units} units.

{summary}
{times}
### The paper's questions, {n} examples

{answers}

{gaps}"""


def write_results(out: Path, cells: Sequence[Cell]) -> str:
    """Write everything into the folder `out`; return the text of README.md."""
    out.mkdir(parents=True, exist_ok=True)
    text = page(rounds(cells))
    (out / "README.md").write_text(text)
    lines = [json.dumps(asdict(cell), sort_keys=True) for cell in cells]
    (out / "cells.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return text


def page(measured: Mapping[int, Measured]) -> str:
    """The text of README.md, of the rounds that are whole."""
    head = HEAD.format(
        skills="\n".join(f"- `{name}`: {SKILLS[name].description}" for name in HELD_OUT),
        tests=TESTS, steps=OPTIONS.steps, batch=OPTIONS.batch_size, compared=COMPARED_ON,
        questions=len(QUESTIONS), protocol=json.dumps(protocol(OPTIONS)),
    )  # fmt: skip
    return "\n".join([head, *(_round(m, n) for n, m in measured.items())])


def _round(measured: Measured, examples: int) -> str:
    compared = gaps(measured, examples)
    return ROUND.format(
        n=examples, units=len(measured.units), summary=tables.summary(measured, ARMS, examples),
        times=times(measured, examples), gaps=differences(compared),
        answers="\n".join(f"- {one.question.text} {one.answer}" for one in compared),
    )  # fmt: skip


def times(measured: Measured, examples: int) -> str:
    """CPU-seconds of each arm's cells, by skill; the fresh LoRA's are its own cell's alone."""
    tasks, rows = sorted({task for task, _ in measured.units}), []
    for name in ARMS:
        if (name, examples) in measured.places:
            cells = measured.places[name, examples]
            seconds = [
                fmean(cell.seconds for unit, cell in cells.items() if unit[0] == task)
                for task in tasks
            ]
            once = ", once" if name in BLIND else ""
            rows.append([f"`{name}`{once}", *(f"{value:.0f}" for value in seconds)])
    return table(["CPU-seconds", *tasks], rows)


def differences(gaps: Sequence[Gap]) -> str:
    """Every comparison, beside the paper's."""
    rows = [
        [
            f"`{one.question.ours}` - `{one.question.theirs}`", bold(Span(*one.over_questions)),
            clear(one.over_units), clear(one.nats),
            "" if one.question.paper is None else f"{one.question.paper:+.3f}",
        ]
        for one in gaps
    ]  # fmt: skip
    return table(["difference", "over questions", "over units", "nats", "the paper's"], rows)
