"""Functions that stand in for the probe's own in its child process, which imports this module."""

import os
import signal
from collections.abc import Callable
from pathlib import Path


def die(model: str, folders: list[Path], device: str, send: Callable[[object], None]) -> None:
    """End as the system ends a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(model: str, folders: list[Path], device: str, send: Callable[[object], None]) -> None:
    """Never return."""
    signal.pause()


def complain(model: str, folders: list[Path], device: str, send: Callable[[object], None]) -> None:
    """Raise what transformers raises of a folder without a config."""
    raise OSError(f"{model} has no config.json")
