"""What adaptive merging is worth, in figures: `python -m tests.lab.adapt_table`.

Trains the pool's adapters that are missing, measures the cells that are missing, and writes tables
and charts. It may be stopped at any time: what was measured stays measured.

Covered: the command line and the stages. Not covered: what a cell is (`adapting/measure.py`), which
there are (`adapting/design.py`), what is written (`adapting/results.py`).
"""

from collections.abc import Callable, Sequence

import torch
from rich.console import Console

from merge.adaptive.model.base import Loaded, load_base, load_tokenizer
from tests.lab.adapting.cells import Cell
from tests.lab.adapting.design import Wanted, wanted_cells
from tests.lab.adapting.measure import TinyBench
from tests.lab.adapting.pool import open_pool
from tests.lab.adapting.results import write_results
from tests.lab.adapting.unit import Bench
from tests.lab.cell_file import CellFile
from tests.lab.command import argument_parser
from tests.lab.merging.adapters import BASE, ensure_adapters
from tests.lab.merging.scoring import Lab

Say = Callable[[str], None]


def measure_missing(
    bench: Bench, cells: CellFile[Cell], wanted: Sequence[Wanted], say: Say
) -> None:
    """Measure every wanted cell that is not in the file yet."""
    for done, one in enumerate(wanted, start=1):
        if cells.get(bench.key(one)) is None:
            cell = bench.measure(one)
            cells.add(cell)
            place = f"{done}/{len(wanted)} {one.task}, seed {one.seed}, {one.examples} examples"
            say(f"{place}, {one.arm}: {cell.accuracy:.3f} in {cell.seconds:.0f} s")


def main() -> None:
    """Train, measure, write, print."""
    arguments = argument_parser(__doc__, "adaptive").parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    torch.set_num_threads(1)  # the passes are small, and a second thread waits more than it works
    adapters = arguments.build / "adapters"
    ensure_adapters(adapters, Lab(BASE), console.print)
    base = Loaded(load_base(str(BASE), torch.device("cpu")), load_tokenizer(str(BASE)))
    bench = TinyBench(base, open_pool(adapters), arguments.build / "adapting")
    cells = CellFile(arguments.build / "adapting" / "cells.jsonl", Cell.from_line)
    wanted = list(wanted_cells())
    if not arguments.tables_only:
        measure_missing(bench, cells, wanted, console.print)
    found = [cells.get(bench.key(one)) for one in wanted]
    console.print(write_results(arguments.out, [cell for cell in found if cell is not None]))


if __name__ == "__main__":
    main()
