"""One merge in a process of its own: `python -m tests.bench.one CASE-AS-JSON`.

Prints {"seconds", "output_bytes"} as JSON. The clock runs over planning and merging, from files to
a finished folder; the interpreter's start-up and imports are outside.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.inputs import BASE, Ingredients


@dataclass(frozen=True)
class Case:
    """A merge to be measured."""

    method: str
    options: Mapping[str, object]
    paths: list[str]
    out: str
    workers: int = 2
    kernel_threads: int | None = None  # against the engine's own rule, which is 1
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a merge took."""

    seconds: float
    peak_mb: float  # anonymous memory of all processes, the interpreter's and torch's included
    output_bytes: int


def measure(case: Case) -> Outcome:
    """Run `case` in a fresh process and return what it took.

    Raises:
        subprocess.CalledProcessError: the merge failed; its traceback is on stderr.
    """
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-m", "tests.bench.one", json.dumps(asdict(case))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment | dict(case.environment)
    ) as child:
        peak = 0.0
        while child.poll() is None:
            peak = max(peak, sum(map(_anonymous_mb, _with_children(child.pid))))
            time.sleep(0.05)  # a look takes milliseconds of a core
        output = child.stdout.read() if child.stdout else ""
    if child.returncode != 0:
        raise subprocess.CalledProcessError(child.returncode, command)
    found = json.loads(output)
    return Outcome(found["seconds"], peak, found["output_bytes"])


def _with_children(pid: int) -> list[int]:
    try:
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except OSError:
        return []  # it has just ended


def _anonymous_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    # Proportional: what a forked process shares with its parent counts once.
    return sum(int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss_Anon"))


def main() -> None:
    """Run the case that stands on the command line."""
    case = Case(**json.loads(sys.argv[1]))
    import torch

    from merge import run
    from merge.peft_format import WEIGHTS_NAME
    from merge.recipe import plan

    @contextmanager
    def other_threads() -> Iterator[None]:
        torch.set_num_threads(case.kernel_threads or 1)
        yield

    if case.kernel_threads is not None:
        run._single_threaded_kernels = other_threads  # what the measurement is about
    ingredients = Ingredients(tuple(map(Path, case.paths)))
    out = Path(case.out)
    begin = time.perf_counter()
    recipe = plan(
        case.method, ingredients.members(), options=case.options, base=BASE, dtype="bfloat16",
        rank_limit=None,
    )  # fmt: skip
    run.merge(recipe, ingredients.folders, out, workers=case.workers)
    seconds = time.perf_counter() - begin
    size = (out / WEIGHTS_NAME).stat().st_size
    shutil.rmtree(out)
    print(json.dumps({"seconds": seconds, "output_bytes": size}))  # noqa: T201  # the parent reads it


if __name__ == "__main__":
    main()
