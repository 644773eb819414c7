"""Lose each part of a small cluster once, under load: `make cluster`."""

import argparse
import sys
from pathlib import Path

from tests.engine.churn.requests import COMPOSITIONS
from tests.engine.cluster.machines import on_machines
from tests.engine.cluster.on_ray import cluster_on_ray
from tests.engine.cluster.run import main


def parsed() -> argparse.Namespace:
    """Return the words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("compositions", nargs="?", type=int, default=COMPOSITIONS)
    parser.add_argument("--ray", action="store_true", help="on a local Ray, which restarts parts")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parsed()
    out = Path("build") / ("cluster-ray.md" if arguments.ray else "cluster.md")
    out.parent.mkdir(exist_ok=True)
    out.unlink(missing_ok=True)

    def say(line: str) -> None:
        """Print a line, and add it to the report."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        with out.open("a") as file:
            file.write(line + "\n")

    start = cluster_on_ray if arguments.ray else on_machines
    sys.exit(bool(main(arguments.compositions, say, start)))
