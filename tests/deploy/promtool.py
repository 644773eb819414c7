"""Runs promtool, which `make setup` installs on Debian; elsewhere it comes with Prometheus."""

import shutil
import subprocess
import sys
from pathlib import Path


def promtool(*arguments: str, folder: Path) -> str:
    """Run promtool in `folder`; return what it prints.

    Raises:
        AssertionError: it is not installed, or it finds a fault.
    """
    own = Path(sys.executable).parent / "promtool"
    program = str(own) if own.exists() else shutil.which("promtool")
    assert program, "promtool is missing: run `make setup` on Debian, or install Prometheus"
    ended = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
