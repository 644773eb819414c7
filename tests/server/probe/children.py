"""Functions that stand in for the probe's own in its child process, which imports this module."""

import os
import signal
from collections.abc import Callable
from pathlib import Path


def die(model: str, folders: list[Path], device: str, send: Callable[[object], None]) -> None:
    """Die as if the system had run out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(model: str, folders: list[Path], device: str, send: Callable[[object], None]) -> None:
    """Never return."""
    signal.pause()


def complain(model: str, folders: list[Path], device: str, send: Callable[[object], None]) -> None:
    """Raise the error of transformers for a folder without a config."""
    raise OSError(f"{model} has no config.json")
