"""CPU seconds of `weft` commands: user and system time of a fresh process, the best of three.

Run it with `make bench-cli`. Not covered: the engine's own start.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from server.cli.demo import demo_settings, import_demo_adapters

COMMANDS = (
    "--help", "adapters --help", "adapters list", "adapters show zorp", "search tax", "keys list",
    "compositions list", "bases list", "jobs list", "db upgrade",
)  # fmt: skip


def cpu_seconds(words: str, home: Path) -> float:
    """Return the CPU seconds of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "server.cli", *words.split()],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "WEFT_HOME": str(home)},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        import_demo_adapters(demo_settings(home, 8000))
        for words in COMMANDS:
            best = min(cpu_seconds(words, home) for _ in range(3))
            sys.stdout.write(f"{best:6.2f} s  weft {words}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
