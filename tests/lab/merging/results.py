"""The folder of results: table.md, cells.json and two charts.

Covered: what is generated from cells. Not covered: the README beside it, which says what the
figures mean and is written by a person.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from tests.lab.merging import tables
from tests.lab.merging.cells import MODES
from tests.lab.merging.charts import Curve, Panel, line_chart
from tests.lab.merging.design import (
    BASELINE,
    COMMON_RANK,
    GROWING_SIZES,
    LEGO,
    LEGO_CANONICAL,
    SAME_RANK_SIZES,
    SHARES,
    TABLE_SIZES,
)
from tests.lab.merging.intervals import Interval
from tests.lab.merging.measure import PROTOCOL
from tests.lab.merging.tables import MODE_NAMES, Measured

HEAD = """\
# Quality of merges on the demo's tasks: figures

Made by `make lab-merge`. Mean share of exact answers on held-out prompts; `norm` is in the
ingredients' mean norm. ± is Student's 95 % interval: in the tables of means over {units} units
(an adapter seed with an order of tasks, each the mean over its sizes), by size over different
merges, for pruning over adapters (one has rank 4, so no eighth). Subsets share adapters, so
intervals are somewhat too narrow. "Matched norm" scales the result to the ingredients' mean norm;
"best scale" is chosen on validation prompts.

Protocol: `{protocol}`
"""


class Studies(NamedTuple):
    """All measured cells, by what they are for."""

    merged: Sequence[Measured]  # of all adapters
    same_rank: Sequence[Measured]  # merges of adapters of one rank
    pruned: Sequence[Measured]  # one adapter each


Adapters = Mapping[int, Mapping[str, float]]  # accuracy alone, by seed and task


def write_results(out: Path, studies: Studies, adapters: Adapters) -> str:
    """Write everything into the folder `out`; return the text of table.md."""
    out.mkdir(parents=True, exist_ok=True)
    text = all_tables(studies, adapters)
    (out / "table.md").write_text(text)
    cells = {one.cell.key: one for study in studies for one in study}.values()
    lines = [json.dumps({"variant": one.wanted.variant.label, **asdict(one.cell)}) for one in cells]
    (out / "cells.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    (out / "growing.svg").write_text(growing_chart(studies.merged))
    (out / "pruning.svg").write_text(pruning_chart(studies.pruned))
    return text


def all_tables(studies: Studies, adapters: Adapters) -> str:
    """The text of table.md."""
    merged, same_rank, pruned = studies
    units = len({(one.wanted.seed, one.wanted.order) for one in merged})
    by_mode: list[tuple[str, Callable[[str], str]]] = [
        ("By task", lambda mode: tables.by_task(merged, mode)),
        ("By number of adapters", lambda mode: tables.by_size(merged, mode, TABLE_SIZES)),
        ("From 2 to 8 adapters", lambda mode: tables.by_size(merged, mode, GROWING_SIZES)),
        ("One adapter to fewer ranks", lambda mode: tables.pruned(pruned, mode)),
    ]
    sections = [
        HEAD.format(units=units, protocol=json.dumps(PROTOCOL)),
        section("Adapters alone, by seed", tables.adapters(adapters)),
        section("Summary over 3, 5 and 8 adapters", tables.summary(merged, BASELINE)),
        *(
            section(f"{lego} against the others, 2 to 8 adapters", tables.duels(merged, lego))
            for lego in (LEGO, LEGO_CANONICAL)
        ),
        section("Two adapters", tables.by_scale(merged, 2)),
        *(
            section(f"{size} adapters of rank {COMMON_RANK}", tables.by_scale(same_rank, size))
            for size in SAME_RANK_SIZES
        ),
        *(
            section(f"{title}, {MODE_NAMES[mode]}", make(mode))
            for title, make in by_mode
            for mode in MODES
        ),
    ]
    return "\n".join(sections)


def section(title: str, body: str) -> str:
    """A heading and what is under it."""
    return f"## {title}\n\n{body}"


def growing_chart(merged: Sequence[Measured]) -> str:
    """Accuracy over the number of ingredients, one panel for each scale."""
    panels = [
        panel(MODE_NAMES[mode], tables.size_intervals(merged, mode, GROWING_SIZES))
        for mode in MODES
    ]
    ticks = [str(size) for size in GROWING_SIZES]
    return line_chart(panels, ticks, across="adapters merged", up="exact answers")


def pruning_chart(pruned: Sequence[Measured]) -> str:
    """Accuracy over the share of the rank kept, one panel for each scale."""
    panels = [panel(MODE_NAMES[mode], tables.share_intervals(pruned, mode)) for mode in MODES]
    ticks = [f"r/{share}" for share in SHARES]
    return line_chart(panels, ticks, across="rank kept", up="exact answers")


def panel(title: str, curves: Mapping[str, Sequence[Interval]]) -> Panel:
    """A panel of named rows of intervals."""
    return Panel(title, [Curve(label, values) for label, values in curves.items()])
