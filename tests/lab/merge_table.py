"""How good merges are, in figures: `python -m tests.lab.merge_table`.

Trains the adapters that are missing, measures the cells that are missing, and writes tables and
charts. It may be stopped at any time: what was measured stays measured.

Covered: the command line and the stages. Not covered: what a cell is (`merging/measure.py`), which
there are (`merging/design.py`), what is written (`merging/results.py`).
"""

import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console

from tests.lab.cell_file import CellFile
from tests.lab.command import argument_parser
from tests.lab.language import TASKS
from tests.lab.merging.adapters import BASE, ensure_adapters
from tests.lab.merging.cells import Cell
from tests.lab.merging.design import MERGES, SAME_RANK, SAME_RANK_MERGES, Wanted, merges, prunings
from tests.lab.merging.measure import Bench
from tests.lab.merging.results import Studies, write_results
from tests.lab.merging.scoring import Lab
from tests.lab.merging.tables import Measured

SAID_EVERY_SECONDS = 20.0

Say = Callable[[str], None]


def measure_missing(
    bench: Bench, cells: CellFile[Cell], wanted: Sequence[Wanted], say: Say
) -> None:
    """Measure every wanted cell that is not in the file yet."""
    said = time.monotonic()
    for done, one in enumerate(wanted):
        if cells.get(bench.key(one)) is None:
            cells.add(bench.measure(one))
        if time.monotonic() - said > SAID_EVERY_SECONDS:
            said = time.monotonic()
            say(f"{done + 1}/{len(wanted)} {one.variant.label}")


def complete(
    bench: Bench, cells: CellFile[Cell], wanted: Sequence[Wanted], say: Say
) -> list[Measured]:
    """The measured cells, of variants of which none is missing."""
    placed = [(one, cells.get(bench.key(one))) for one in wanted]
    lacking = {one.variant.label for one, cell in placed if cell is None}
    if lacking:
        say(f"not complete, so not in the tables: {', '.join(sorted(lacking))}")
    return [
        Measured(one, cell)
        for one, cell in placed
        if cell is not None and one.variant.label not in lacking
    ]


def main() -> None:
    """Train, measure, write, print."""
    arguments = argument_parser(__doc__, "merge").parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    torch.set_num_threads(1)  # the passes are small, and a second thread waits more than it works
    lab, adapters = Lab(BASE), arguments.build / "adapters"
    accuracies = ensure_adapters(adapters, lab, console.print)
    bench = Bench(lab, adapters)
    cells = CellFile(arguments.build / "merge" / "cells.jsonl", Cell.from_line)
    studies = [
        list(merges(MERGES, TASKS)),
        list(merges(SAME_RANK_MERGES, SAME_RANK)),
        list(prunings()),
    ]
    if not arguments.tables_only:
        measure_missing(bench, cells, [one for study in studies for one in study], console.print)
    measured = Studies(*(complete(bench, cells, study, console.print) for study in studies))
    console.print(write_results(arguments.out, measured, accuracies))


if __name__ == "__main__":
    main()
