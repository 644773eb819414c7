"""Processes that stand in for the probe's own. In a module of its own: it is imported in them."""

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path


def die(answers: Connection, model: str, folders: list[Path], device: str) -> None:
    """End as the system ends what takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(answers: Connection, model: str, folders: list[Path], device: str) -> None:
    """Come to no result."""
    signal.pause()


def complain(answers: Connection, model: str, folders: list[Path], device: str) -> None:
    """Say why there is no result."""
    answers.send(f"OSError: {model} has no config.json")
