"""The values that the registry returns for files and jobs: frozen, without a session.

Not covered: a job's request and report, which are JSON that means nothing here but for the pool's
`members` (`registry.upkeep.garbage` spares their files).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from registry.types import EventKind, JobStatus, Level

EndStatus = Literal["succeeded", "failed", "cancelled"]
ACTIVE: tuple[JobStatus, ...] = ("queued", "running")  # a job of any other status never changes it
Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """A file that a client sent; its bytes lie elsewhere."""

    id: str
    filename: str
    purpose: str
    bytes: int
    digest: str  # SHA-256 of its bytes
    namespace: str | None  # of the owner; None for an owner without a namespace
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands; its result is separate (`Jobs.report`)."""

    id: str
    status: JobStatus
    base: str
    request: Json
    training_file: str
    validation_file: str | None
    name: str  # what the result is to be called
    model: str | None  # the reference that answers, once published
    seed: int
    namespace: str | None
    created_at: datetime
    created_by: str
    started_at: datetime | None  # for the first time
    finished_at: datetime | None
    heartbeat_at: datetime | None
    worker: str | None  # that runs it, or ran it last
    device: str | None
    attempts: int  # how often it was started, orderly stops not counted
    cancel_asked_at: datetime | None
    error: Json | None  # code, message, param
    trained_tokens: int | None

    @property
    def active(self) -> bool:
        """True while it waits or runs."""
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
