"""A job's own process: it reads the examples, learns, and tells its parent of every step.

It dies at once with whoever started it, and nothing that it does can hold up the gateway. What it
found is in the job's folder (`outcome.json`); started again there, it goes on from the last
evaluation. Not covered: who starts and ends it (`process`, `runner`).
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from merge.adaptive.pool import PoolMember
from registry.jobs.types import Note
from server.jobs.datasets import read_dataset

NICE = 10  # below the engine, and below merges for which requests wait


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that a job's process needs to know; `options` are `Options.to_json`."""

    options: Mapping[str, Any]
    members: tuple[PoolMember, ...]
    training: Path
    validation: Path | None
    folder: Path  # of the job
    scores: Path  # of pool members, for all jobs
    model: str  # the base's weights: a folder or a Hub id
    base: str  # its name in the registry
    device: str
    dtype: str
    rank_limit: int
    norm_limit: float
    memory_bytes: int | None


Send: TypeAlias = Callable[[Note], None]
# What a process does: it tells of its steps, and raises what ends the job.
Entry: TypeAlias = Callable[[Task, Send], None]


def learn(task: Task, send: Send) -> None:
    """Do a job: the entry of every process but those of tests.

    Raises:
        DatasetInvalid: before anything is loaded.
        merge.adaptive's own, merge.errors.MergeError, OSError: see `merge.adaptive.adapt`.
    """
    options = dict(task.options)
    data = read_dataset(task.training, task.validation, seed=int(options["seed"]))
    # Only now: torch and transformers take seconds to import.
    from merge.adaptive.adapt import Setting, adapt
    from merge.adaptive.options import Options
    from merge.adaptive.pool import FileScores

    setting = Setting(
        model=task.model, base=task.base, device=task.device, dtype=task.dtype,
        rank_limit=task.rank_limit, norm_limit=task.norm_limit, memory_bytes=task.memory_bytes,
    )  # fmt: skip
    adapt(
        setting, Options.parse(options), _Members(task.members), data.train, data.validation,
        scores=FileScores(task.scores), folder=task.folder, watch=lambda each: send(note_of(each)),
    )  # fmt: skip


def note_of(event: Any) -> Note:
    """Return what a job's log says of a step, or of a candidate that was measured.

    Made here: the learning's own types would have the parent import all of it.
    """
    now = datetime.now(UTC)
    data = event._asdict()
    if "candidate" in data:
        return Note(f"{data['candidate']} was measured.", kind="candidate", data=data, at=now)
    said = f"{data['stage']}: step {data['step']} of {data['steps']}"
    losses = (("training", data["train_loss"]), ("validation", data["valid_loss"]))
    told = [f"{what} loss {loss:.4f}" for what, loss in losses if loss is not None]
    return Note(", ".join([said, *told]), kind="metrics", data=data, at=now)


@dataclass(frozen=True, slots=True)
class _Members:
    """See `merge.adaptive.pool.Pool`."""

    found: tuple[PoolMember, ...]

    def members(self) -> tuple[PoolMember, ...]:
        """Return them all."""
        return self.found


def run(entry: Entry, task: Task, send: Send) -> None:
    """Child entry point: make the job's folder, tell the process id, then run `entry`."""
    task.folder.mkdir(parents=True, exist_ok=True)
    send(Note("Its process is at work.", data={"pid": os.getpid()}))
    entry(task, send)
