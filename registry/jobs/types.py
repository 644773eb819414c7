"""Immutable values that the registry returns for files and jobs; they need no session.

Not covered: a job's request and report. The registry stores them as JSON and reads only the pool's
`members`, whose files `registry.upkeep.garbage` keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from registry.types import EventKind, JobStatus, Level

EndStatus = Literal["succeeded", "failed", "cancelled"]
ACTIVE: tuple[JobStatus, ...] = ("queued", "running")  # any other status is final
Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """A file that a client uploaded; its bytes are stored elsewhere."""

    id: str
    filename: str
    purpose: str
    bytes: int
    digest: str  # SHA-256 of its bytes
    namespace: str | None  # of the owner; None if the owner has no namespace
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Job:
    """The current state of a job; its report is separate (`Jobs.report`)."""

    id: str
    status: JobStatus
    base: str
    request: Json
    training_file: str
    validation_file: str | None
    name: str  # the name of the result
    model: str | None  # the reference of the published result
    seed: int
    namespace: str | None
    created_at: datetime
    created_by: str
    started_at: datetime | None  # the first start
    finished_at: datetime | None
    heartbeat_at: datetime | None
    worker: str | None  # the current worker, or the last one
    device: str | None
    attempts: int  # the number of starts, without those that ended in an orderly stop
    cancel_asked_at: datetime | None
    error: Json | None  # code, message, param
    trained_tokens: int | None

    @property
    def active(self) -> bool:
        """True while the job is queued or running."""
        return self.status in ACTIVE


@dataclass(frozen=True, slots=True)
class Note:
    """An entry to add to a job's log; `at` defaults to now."""

    message: str
    level: Level = "info"
    kind: EventKind = "message"
    data: Json = field(default_factory=dict)
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One entry of a job's log; ids grow within a job."""

    id: int
    job: str
    at: datetime
    level: Level
    kind: EventKind
    message: str
    data: Json


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The answer to a worker's heartbeat."""

    owned: bool  # False: another worker has the job, or it has ended; stop
    cancel: bool  # a caller has asked to cancel the job
