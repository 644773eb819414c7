"""Lose each part of a small cluster once: `python -m tests.engine.cluster [COMPOSITIONS]`."""

import sys
from pathlib import Path

from tests.engine.churn.requests import COMPOSITIONS
from tests.engine.cluster.run import main

OUT = Path("build") / "cluster.md"


def say(line: str) -> None:
    """Print a line, and add it to the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    with OUT.open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    OUT.parent.mkdir(exist_ok=True)
    OUT.unlink(missing_ok=True)
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else COMPOSITIONS, say)))
