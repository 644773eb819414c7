"""The folder of results: table.md, lab.json, cells.json and two charts.

Covered: what is generated from cells. Not covered: the README beside it, which says what the
figures mean and is written by a person.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.lab.adapting import tables
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import ARMS, EXAMPLES, MOST
from tests.lab.adapting.measure import PROTOCOL
from tests.lab.adapting.tables import Measured
from tests.lab.adapting.tasks import FEW_SHOT
from tests.lab.merging.charts import Curve, Panel, line_chart
from tests.lab.merging.intervals import Interval

HEAD = """\
# Adaptive merging on the demo's base: figures

Made by `make lab`. Share of exact answers on {tests} held-out prompts a task, case and all; the
mean over {units} units (a task with a seed of examples and beginnings), ± Student's 95 % interval.
"Served files" is the same of the folded artifact. Differences are paired, over units and over the
tasks' means, bold where the interval leaves out 0. Units of one task are alike: intervals over
units speak of these tasks only, those over tasks also of others like them.

Protocol: `{protocol}`

Tasks:

{tasks}
"""


def write_results(out: Path, cells: Sequence[Cell]) -> str:
    """Write everything into the folder `out`; return the text of table.md."""
    out.mkdir(parents=True, exist_ok=True)
    measured = Measured(cells)
    text = all_tables(measured)
    (out / "table.md").write_text(text)
    (out / "lab.json").write_text(json.dumps(figures(measured), indent=1) + "\n")
    lines = [json.dumps(asdict(cell), sort_keys=True) for cell in cells]
    (out / "cells.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    (out / "examples.svg").write_text(examples_chart(measured))
    (out / "adapters.svg").write_text(adapters_chart(measured))
    return text


def all_tables(measured: Measured) -> str:
    """The text of table.md."""
    tasks = "\n".join(f"- `{task.name}`: {task.description}" for task in FEW_SHOT.values())
    head = HEAD.format(
        tests=PROTOCOL["tests"], units=len(measured.units), protocol=json.dumps(PROTOCOL),
        tasks=tasks,
    )  # fmt: skip
    return "\n".join(
        [
            head,
            f"## All arms, {MOST} examples\n\n{tables.summary(measured)}",
            f"## By examples\n\n{tables.by_examples(measured)}",
            f"## Findings\n\n{tables.findings(measured)}",
        ]
    )


def figures(measured: Measured) -> dict[str, dict[str, dict[str, float]]]:
    """Every arm with the most examples: its accuracy and the interval's ends."""
    found = {}
    for name in ARMS:
        if (name, MOST) in measured.places:
            mean = measured.mean((name, MOST))
            half = mean.half or 0.0
            found[name] = {
                "accuracy": round(mean.mean, 4), "low": round(mean.mean - half, 4),
                "high": round(mean.mean + half, 4),
            }  # fmt: skip
    return {"adaptive": found}


def examples_chart(measured: Measured) -> str:
    """Accuracy over the number of examples, of what was measured with each."""
    names = [name for name, arm in ARMS.items() if arm.examples == EXAMPLES]
    curves = [
        Curve(ARMS[name].title, [measured.mean((name, n)) for n in EXAMPLES])
        for name in names
        if all((name, n) in measured.places for n in EXAMPLES)
    ]
    ticks = [str(n) for n in EXAMPLES]
    return line_chart([Panel("", curves)], ticks, across="examples", up="exact answers")


def adapters_chart(measured: Measured) -> str:
    """Accuracy over the number of adapters merged, with and without the target."""
    rows = (
        ("without a fresh LoRA", ("recycle_k2", "recycle_k5", "recycle")),
        ("with one", ("recycle_target_k2", "recycle_target_k5", "recycle_target")),
        ("a fresh LoRA alone", ("fresh_lora", "fresh_lora", "fresh_lora")),
    )
    curves = [
        Curve(label, [_mean(measured, name) for name in names])
        for label, names in rows
        if all((name, MOST) in measured.places for name in names)
    ]
    return line_chart(
        [Panel("", curves)], ["2", "5", "10"], across="adapters merged", up="exact answers"
    )


def _mean(measured: Measured, name: str) -> Interval:
    return measured.mean((name, MOST))
