"""The folder of results: table.md, cells.json and a chart.

Covered: what is generated from cells. Not covered: the README beside it, which says what the
figures mean and is written by a person.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.lab.merging.cells import MODES
from tests.lab.merging.charts import Dot, DotPanel, dot_chart
from tests.lab.merging.results import section
from tests.lab.merging.tables import MODE_NAMES
from tests.lab.skills.merging import tables
from tests.lab.skills.merging.cells import Alone
from tests.lab.skills.merging.design import BASELINE, DEFAULT, LEGO
from tests.lab.skills.merging.figures import Measured, Scores, by_row
from tests.lab.skills.merging.measure import PROTOCOL

HEAD = """\
# Merging the skills of SmolLM2-135M-Instruct: figures

Made by `make lab-skills`. Retention is the share of right answers over that of the own adapter, on
the same held-out prompts; a merge's mean and worst are over its ingredients' tasks. In brackets:
95 % intervals over {subsets} random subsets of 2 to 8 skills (bootstrap; P: Wilson; one adapter at
fewer ranks: over adapters). "Matched norm" scales the result to the ingredients' mean norm; "best
scale" is chosen on validation prompts. "=": the row is another one times a factor, so that these
figures are that one's (`average` and `lego` without clusters: {baseline}). Gain: on tasks of two
merged skills, at the best scale, over the best ingredient alone.

Protocol: `{protocol}`
"""


def write_results(
    out: Path, merged: Sequence[Measured], pruned: Sequence[Measured], alone: Sequence[Alone]
) -> str:
    """Write everything into the folder `out`; return the text of table.md."""
    out.mkdir(parents=True, exist_ok=True)
    scores = Scores(alone)
    text = all_tables(merged, pruned, scores)
    (out / "table.md").write_text(text)
    lines = [json.dumps(asdict(one)) for one in alone]
    lines += [json.dumps(asdict(one.cell)) for one in (*merged, *pruned)]
    (out / "cells.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    (out / "retention.svg").write_text(chart(merged, scores))
    return text


def all_tables(merged: Sequence[Measured], pruned: Sequence[Measured], scores: Scores) -> str:
    """The text of table.md."""
    subsets = len({one.cell.skills for one in merged})
    opponents = [row for row in (DEFAULT, LEGO) if row in by_row(merged)]
    head = HEAD.format(subsets=subsets, baseline=BASELINE, protocol=json.dumps(PROTOCOL))
    sections = [
        head,
        section("Base and adapters alone", tables.alone(scores)),
        section("Summary: mean retention", tables.summary(merged, scores, BASELINE)),
        *(section(f"Against {row}", tables.duels(merged, scores, row)) for row in opponents),
    ]
    for mode in MODES:
        name = MODE_NAMES[mode]
        sections += [
            section(f"Retention, {name}", tables.by_mode(merged, scores, mode)),
            section(f"By number of adapters, {name}", tables.by_size(merged, scores, mode)),
            section(f"Right answers by task, {name}", tables.by_skill(merged, mode)),
            section(f"One adapter at fewer ranks, {name}", tables.pruned(pruned, scores, mode)),
        ]
    return "\n".join(sections)


def chart(merged: Sequence[Measured], scores: Scores) -> str:
    """Mean and worst retention of every row, one panel for each scale."""
    groups = by_row(merged)
    panels = []
    for mode in MODES:
        dots = {}
        for label, cells in groups.items():
            own = tables.figures_by_mode(cells, scores).get(mode)
            dots[label] = [] if own is None else [Dot(*own.mean), Dot(*own.worst)]
        panels.append(DotPanel(MODE_NAMES[mode], dots))
    return dot_chart(panels, ("mean", "worst"), across="retention")
