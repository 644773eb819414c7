"""What learning over other skills is worth on the real base: `python -m tests.lab.adapt_skills`.

Measures the cells that are missing, and writes a page with tables. It may be stopped at any time:
what was measured stays measured. Needs the eight adapters of `make demo-assets`, on one core.

Covered: the command line and the stages. Not covered, of `skills/adapting/`: what a cell is
(`measure.py`), which there are (`design.py`), what is written (`results.py`).
"""

from itertools import islice
from pathlib import Path

import torch

from server.cli.demo_base import demo_base
from tests.lab.adapt_table import measure_missing
from tests.lab.adapting.cells import Cell
from tests.lab.cell_file import CellFile
from tests.lab.command import argument_parser
from tests.lab.make_skills import say
from tests.lab.skills.adapting.design import wanted_cells
from tests.lab.skills.adapting.measure import SkillBench
from tests.lab.skills.adapting.results import write_results


def main() -> None:
    """Measure, write, print."""
    parser = argument_parser(__doc__, "skills-adaptive")
    parser.add_argument(
        "--adapters", type=Path, default=Path("deploy/demo/skills"), help="one folder each"
    )
    parser.add_argument("--cells", type=int, help="measure at most so many, then write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    build = arguments.build / "skills-adapting"
    bench = SkillBench(demo_base(report=say), lambda name: arguments.adapters / name, build)
    cells = CellFile(build / "cells.jsonl", Cell.from_line)
    wanted = list(wanted_cells())
    if not arguments.tables_only:
        missing = [one for one in wanted if cells.get(bench.key(one)) is None]
        measure_missing(bench, cells, list(islice(missing, arguments.cells)), say)
    known = [cells.get(bench.key(one)) for one in wanted]
    say(write_results(arguments.out, [cell for cell in known if cell is not None]))


if __name__ == "__main__":
    main()
