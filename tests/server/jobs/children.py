"""What stands in for a job's learning, in its real process. Apart: it is imported there."""

import json
import os
import resource
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.jobs.types import Note
from server.jobs.worker import Send, WorkerSpec

STEPS = 5
_BEGUN = "begun"


def learn(
    outcome: Mapping[str, Any], adapters: Mapping[str, Path], spec: WorkerSpec, send: Send
) -> None:
    """Tell of some steps and find an outcome; `adapters` are what it made, by folder."""
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
    """Be killed in the middle, and go on from there the next time."""
    if not (spec.folder / _BEGUN).exists():
        (spec.folder / _BEGUN).touch()
        die(spec, send)
    learn(outcome, adapters, spec, send)


def die(spec: WorkerSpec, send: Send) -> None:
    """End as the system ends what takes too much memory."""
    send(Note("still alive"))
    os.kill(os.getpid(), signal.SIGKILL)


def hang(spec: WorkerSpec, send: Send) -> None:
    """Come to no end; tell who this is."""
    send(Note("waiting", data={"pid": os.getpid()}))
    while True:
        signal.pause()


class LossNotFinite(ArithmeticError):
    """Stands for the learning's own of this name."""


def diverge(spec: WorkerSpec, send: Send) -> None:
    """Meet NaN."""
    raise LossNotFinite("recycle: the loss at step 7 is not finite; the state of step 5 is kept")


def fill_the_disk(spec: WorkerSpec, send: Send) -> None:
    """Write more than there is room for."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    (spec.folder / "checkpoint").write_bytes(bytes(2000))


def break_down(spec: WorkerSpec, send: Send) -> None:
    """Meet a fault of ours."""
    raise KeyError("secret")
