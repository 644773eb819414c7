"""A job's child process: it reads the examples, learns, and sends a note of every step.

It writes its outcome into the job's folder (`outcome.json`). Started again there, it resumes from
the last evaluation. Not covered: starting and ending it (`runner`).
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
class WorkerSpec:
    """What a job's child process needs; `options` are `Options.to_json`."""

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
# The function of a child: it sends notes of its steps, and raises what ends the job.
Entry: TypeAlias = Callable[[WorkerSpec, Send], None]


def learn(spec: WorkerSpec, send: Send) -> None:
    """Learn: the entry of every child but those of tests.

    Raises:
        DatasetInvalid: before anything is loaded.
        merge.adaptive's own, merge.errors.MergeError, OSError: see `merge.adaptive.adapt`.
    """
    data = read_dataset(spec.training, spec.validation)
    # Only now: torch and transformers take seconds to import.
    from merge.adaptive.adapt import Setting, adapt
    from merge.adaptive.options import Options
    from merge.adaptive.pool import FileScores

    setting = Setting(
        model=spec.model, base=spec.base, device=spec.device, dtype=spec.dtype,
        rank_limit=spec.rank_limit, norm_limit=spec.norm_limit, memory_bytes=spec.memory_bytes,
    )  # fmt: skip
    adapt(
        setting, Options.parse(spec.options), _Members(spec.members), data.examples,
        data.validation,
        scores=FileScores(spec.scores), folder=spec.folder,
        watch=lambda event: send(note_of(event)),
    )  # fmt: skip


def note_of(event: Any) -> Note:
    """Return the log entry of a training step, or of a candidate that was measured.

    It is made in the child, so that the parent need not import the learning's types.
    """
    now = datetime.now(UTC)
    data = event._asdict()
    if "candidate" in data:
        return Note(f"{data['candidate']} is measured.", kind="candidate", data=data, at=now)
    step = f"{data['stage']}: step {data['step']} of {data['steps']}"
    losses = (("training", data["train_loss"]), ("validation", data["valid_loss"]))
    texts = [f"{name} loss {loss:.4f}" for name, loss in losses if loss is not None]
    return Note(", ".join([step, *texts]), kind="metrics", data=data, at=now)


@dataclass(frozen=True, slots=True)
class _Members:
    """See `merge.adaptive.pool.Pool`."""

    pool: tuple[PoolMember, ...]

    def members(self) -> tuple[PoolMember, ...]:
        """See `merge.adaptive.pool.Pool`."""
        return self.pool


def run(entry: Entry, spec: WorkerSpec, send: Send) -> None:
    """Child entry point: make the job's folder, send the process id, then run `entry`."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    send(Note("The job's process has started.", data={"pid": os.getpid()}))
    entry(spec, send)
