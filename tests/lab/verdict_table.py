"""What a verdict is worth, in figures: `python -m tests.lab.verdict_table`.

Runs the whole jobs that are missing, draws marks of the adaptive table, and writes tables and a
chart. It may be stopped at any time: finished jobs stay, and an unfinished one goes on.

Covered: the command line and the stages. Not covered: jobs (`verdicts/jobs.py`), chance
(`verdicts/chance.py`), what is written (`verdicts/results.py`).
"""

import json
from pathlib import Path

import torch
from rich.console import Console

from tests.lab.adapting.cells import Cell
from tests.lab.adapting.tasks import FEW_SHOT
from tests.lab.cell_file import CellFile
from tests.lab.command import RESULTS, argument_parser
from tests.lab.verdicts.chance import units_of
from tests.lab.verdicts.jobs import Job, key_of, run_job
from tests.lab.verdicts.results import measured_rates, nats_rates, write_results

MARKS = RESULTS / "2026-11-25-adaptive" / "cells.json"


def read_cells(path: Path) -> list[Cell]:
    """Return the cells of the adaptive table."""
    return [Cell.from_line(json.dumps(line)) for line in json.loads(path.read_text())]


def main() -> None:
    """Run, draw, write, print."""
    arguments = argument_parser(__doc__, "verdict").parse_args()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    torch.set_num_threads(1)
    build = arguments.build / "verdicts"
    known = CellFile(build / "jobs.jsonl", Job.from_line)
    for task in FEW_SHOT:
        if known.get(key_of(task)) is None and not arguments.tables_only:
            job = run_job(task, build / task)
            known.add(job)
            console.print(f"{task}, {job.seconds:.0f} s: {job.sentence}")
    wanted = [known.get(key_of(task)) for task in FEW_SHOT]
    jobs = [one for one in wanted if one is not None]
    cells = read_cells(MARKS)
    rates = [*measured_rates(units_of(cells)), *nats_rates(jobs)]
    console.print(write_results(arguments.out, rates, jobs, cells))


if __name__ == "__main__":
    main()
