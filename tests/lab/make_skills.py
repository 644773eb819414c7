"""Train the eight skills and measure them and their merges: `python -m tests.lab.make_skills`.

It may be stopped at any time and goes on where it was: a training from its last checkpoint, a
measurement from its last cell. Covered: the command line and the stages.
"""

import argparse
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from server.cli.demo_base import demo_base
from tests.lab.skills import SKILLS
from tests.lab.skills.compose import Bench, compositions, measure_missing, singles
from tests.lab.skills.results import write_results
from tests.lab.skills.train import PLANS, Course, train_skill

SAID_EVERY = 10  # steps
WORK = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weft" / "skills"


def say(text: str) -> None:
    """Print a line with the time, at once: the output may be a file."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)  # noqa: T201


def train(base: Path, work: Path, name: str) -> None:
    """Train one skill."""

    def report(course: Course) -> None:
        if course.step == 1 or course.step % SAID_EVERY == 0:
            say(
                f"{name} {course.step}/{PLANS[name].steps} loss {course.loss:.3f}, "
                f"{course.seconds / 60:.1f} min, {course.cpu_seconds / 60:.1f} of CPU, "
                f"{course.tokens} tokens"
            )

    train_skill(base, name, work, report)


def measure(base: Path, work: Path, out: Path) -> None:
    """Measure the adapters that are there and the merges of which both parts are, and write."""

    def folder(name: str) -> Path:
        return work / name / "adapter"

    bench = Bench(base, [folder(name) for name in SKILLS if folder(name).is_dir()])
    write_results(
        work,
        out,
        measure_missing(bench, work / "singles.jsonl", list(singles(folder)), say),
        measure_missing(bench, work / "composed.jsonl", list(compositions(folder)), say),
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("deploy/demo/skills"))
    parser.add_argument("--work", type=Path, default=WORK, help="kept between runs")
    parser.add_argument("--only", nargs="+", choices=list(SKILLS), default=list(SKILLS))
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    return parser.parse_args()


def main() -> None:
    """Train and measure one skill after another."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    started = time.monotonic()
    base = demo_base(report=say)
    work: Path = arguments.work
    for name in arguments.only:
        train(base, work, name)
        measure(base, work, arguments.out)
    say(f"done after {(time.monotonic() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
