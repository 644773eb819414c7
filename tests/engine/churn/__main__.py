"""`python -m tests.engine.churn`: print the progress, and write build/churn.json."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.engine.churn.run import churn

REPORT = Path("build/churn.json")


def main() -> int:
    """Run a churn; return 1 if something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = churn(Path(folder) / "home", asked.requests, seed=asked.seed, report=REPORT)
    for problem in figures.problems[:50]:
        sys.stdout.write(f"problem: {problem}\n")
    sys.stdout.write(
        f"{figures.digests} digests, {figures.answers_compared} different answers compared, "
        f"memory {100 * figures.growth:+.1f} %, {len(figures.problems)} problems: {REPORT}\n"
    )
    return 1 if figures.problems else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
