"""The command line of a study: where it keeps what was measured, and where its results go."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def argument_parser(description: str | None, study: str) -> argparse.ArgumentParser:
    """The options of the study whose results' folder ends in this name."""
    today = datetime.now(UTC).date().isoformat()
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--build", type=Path, default=Path("build/lab"), help="kept between runs")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{today}-{study}")
    parser.add_argument("--tables-only", action="store_true", help="of what is measured already")
    return parser
