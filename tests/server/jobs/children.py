"""Functions that replace a job's learning in its child process, which imports this module."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merge.peft_format.atomic_files import write_atomic
from registry.jobs.types import Note
from server.jobs.worker import Send, WorkerSpec

STEPS = 5
_BEGUN = "begun"


def learn(
    outcome: Mapping[str, Any], adapters: Mapping[str, Path], spec: WorkerSpec, send: Send
) -> None:
    """Report some steps and return an outcome; `adapters` are the made ones, by folder."""
    for step in range(1, STEPS + 1):
        data = {"stage": "recycle", "step": step, "steps": STEPS, "train_loss": 1 / step,
                "valid_loss": None}  # fmt: skip
        send(Note(f"step {step}", kind="metrics", data=data))
    for below, folder in adapters.items():
        shutil.copytree(folder, spec.folder / below, dirs_exist_ok=True)
    examples = [{"prompt": [1, 2], "tokens": [1, 2, 3, 4], "labels": [-100, -100, 3, 4],
                 "answer": "yes"}] * 2  # fmt: skip
    (spec.folder / "validation.json").write_text(json.dumps(examples))
    (spec.folder / "outcome.json").write_text(json.dumps(outcome))


def die_once(
    outcome: Mapping[str, Any], adapters: Mapping[str, Path], spec: WorkerSpec, send: Send
) -> None:
    """Die in the first run, and continue in the next."""
    if not (spec.folder / _BEGUN).exists():
        (spec.folder / _BEGUN).touch()
        die(spec, send)
    learn(outcome, adapters, spec, send)


def die(spec: WorkerSpec, send: Send) -> None:
    """Die as if the system had run out of memory."""
    send(Note("still alive"))
    os.kill(os.getpid(), signal.SIGKILL)


def resume(
    outcome: Mapping[str, Any], adapters: Mapping[str, Path], spec: WorkerSpec, send: Send
) -> None:
    """Write a checkpoint and wait; where there is one, learn."""
    checkpoint = spec.folder / "checkpoints/recycle.pt"
    if not checkpoint.exists():
        write_atomic(checkpoint, "state")
        hang(spec, send)
    learn(outcome, adapters, spec, send)


def hang(spec: WorkerSpec, send: Send) -> None:
    """Report the process id, then never return."""
    send(Note("waiting", data={"pid": os.getpid()}))
    while True:
        signal.pause()


class LossNotFinite(ArithmeticError):
    """Replaces the learning's error of this name."""


def diverge(spec: WorkerSpec, send: Send) -> None:
    """Raise the error of a loss that is NaN."""
    raise LossNotFinite("recycle: the loss at step 7 is not finite; the state of step 5 is kept")


def fill_the_disk(spec: WorkerSpec, send: Send) -> None:
    """Raise the error of a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    (spec.folder / "checkpoint").write_bytes(bytes(2000))


def break_down(spec: WorkerSpec, send: Send) -> None:
    """Raise an error that weft does not expect."""
    raise KeyError("secret")
