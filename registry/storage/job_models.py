"""The tables of files and jobs. Every constraint has a name.

Rows of events are never changed, and removed by `registry.upkeep.retention` alone. The row of a
removed file remains, because jobs refer to it. The contents of files and the output of jobs are on
disk.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from registry.storage.columns import Table
from registry.types import EventKind, JobStatus, Level

_ID_LENGTH = 40
_NAME_LENGTH = 200


class FileRow(Table):
    """An uploaded file; `namespace` is null if the client has rights to all namespaces."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(_ID_LENGTH), primary_key=True)
    filename: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(String(60))
    bytes: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    namespace: Mapped[str | None] = mapped_column(String(_NAME_LENGTH))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    removed_at: Mapped[datetime | None]
    removed_by: Mapped[str | None] = mapped_column(Text)


class JobRow(Table):
    """A job; `worker` is the current or last worker, and null while the job is queued."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "created_at", "id"),
        Index(None, "status", "created_at"),
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status"
        ),
    )

    id: Mapped[str] = mapped_column(String(_ID_LENGTH), primary_key=True)
    status: Mapped[JobStatus] = mapped_column(String(20))
    base: Mapped[str] = mapped_column(ForeignKey("bases.name"))
    request: Mapped[dict[str, Any]]
    training_file: Mapped[str] = mapped_column(ForeignKey("files.id"))
    validation_file: Mapped[str | None] = mapped_column(ForeignKey("files.id"))
    name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    model: Mapped[str | None] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    namespace: Mapped[str | None] = mapped_column(String(_NAME_LENGTH))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(Text)
    device: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int]
    cancel_asked_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    trained_tokens: Mapped[int | None] = mapped_column(BigInteger)
    # Reports are long, and lists do not show them: a query loads the column explicitly.
    report: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True), deferred=True, deferred_raiseload=True
    )


class JobEventRow(Table):
    """One entry of a job's log."""

    __tablename__ = "job_events"
    __table_args__ = (
        Index(None, "job", "id"),
        CheckConstraint("level IN ('info', 'warn', 'error')", name="level"),
        CheckConstraint("kind IN ('message', 'metrics', 'candidate')", name="kind"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    at: Mapped[datetime]
    level: Mapped[Level] = mapped_column(String(20))
    kind: Mapped[EventKind] = mapped_column(String(20))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]]
