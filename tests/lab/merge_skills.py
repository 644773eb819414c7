"""How much of the real base's skills merges keep: `python -m tests.lab.merge_skills`.

Measures the cells that are missing, and writes tables and a chart. It may be stopped at any time:
what was measured stays measured. Needs the eight adapters of `make demo-assets`, on one core.

Covered: the command line and the stages. Not covered: what a cell is (`skills/merging/measure.py`),
which there are (`skills/merging/design.py`), what is written (`skills/merging/results.py`).
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import torch

from server.cli.demo_base import demo_base
from tests.lab.cell_file import CellFile
from tests.lab.command import argument_parser
from tests.lab.make_skills import say
from tests.lab.skills.merging.cells import Alone, Cell
from tests.lab.skills.merging.design import ROUNDS, Wanted, merges, prunings
from tests.lab.skills.merging.figures import Measured
from tests.lab.skills.merging.measure import Bench, models_alone
from tests.lab.skills.merging.results import write_results

Say = Callable[[str], None]


def measure_alone(bench: Bench, cells: CellFile[Alone], say: Say) -> list[Alone]:
    """Measure base and adapters alone where they are not in the file yet; return all."""
    alone = []
    for model, task in models_alone():
        one = cells.get(bench.alone_key(model, task))
        if one is None:
            cells.add(one := bench.alone(model, task))
            say(f"{model} on {task.name}: {one.right}/{one.tests} ({one.cpu_seconds} s)")
        alone.append(one)
    return alone


def measure_missing(
    bench: Bench, cells: CellFile[Cell], wanted: Iterable[Wanted], say: Say
) -> None:
    """Measure every wanted cell that is not in the file yet."""
    for one in wanted:
        if cells.get(bench.key(one)) is None:
            cells.add(cell := bench.measure(one))
            right = sum(cell.right[one.row.modes[-1]].values())
            say(
                f"{cell.row} of {len(cell.skills)}: {right}/{cell.tests * len(cell.skills)} "
                f"({cell.cpu_seconds} s)"
            )


def complete(
    bench: Bench, cells: CellFile[Cell], wanted: Sequence[Wanted], say: Say
) -> list[Measured]:
    """The measured cells of rows of which none is missing."""
    placed = [(one, cells.get(bench.key(one))) for one in wanted]
    lacking = {one.row.label for one, cell in placed if cell is None}
    if lacking:
        say(f"not complete, so not in the tables: {', '.join(sorted(lacking))}")
    return [
        Measured(one, cell)
        for one, cell in placed
        if cell is not None and one.row.label not in lacking
    ]


def main() -> None:
    """Measure, write, print."""
    parser = argument_parser(__doc__, "skills")
    parser.add_argument(
        "--adapters", type=Path, default=Path("deploy/demo/skills"), help="one folder each"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="subsets of each size")
    parser.add_argument("--rows", nargs="+", help="only these rows, in the tables too")
    parser.add_argument("--cells", type=int, help="measure at most so many merges, then write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(demo_base(report=say), lambda name: arguments.adapters / name)
    build = arguments.build / "skills"
    alone = measure_alone(bench, CellFile(build / "alone.jsonl", Alone.from_line), say)
    cells = CellFile(build / "cells.jsonl", Cell.from_line)
    studies = [
        [one for one in study if arguments.rows is None or one.row.label in arguments.rows]
        for study in (merges(arguments.rounds), prunings())
    ]
    if not arguments.tables_only:
        missing = (one for study in studies for one in study if not cells.get(bench.key(one)))
        measure_missing(bench, cells, islice(missing, arguments.cells), say)
    merged, pruned = (complete(bench, cells, study, say) for study in studies)
    write_results(arguments.out, merged, pruned, alone)
    say(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
