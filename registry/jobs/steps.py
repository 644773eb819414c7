"""A job's way through its statuses, inside a transaction that `registry.jobs.queue` has begun.

    queued ── running ── succeeded | failed | cancelled
       └───────── cancelled          running ── queued (its worker stopped or fell silent)

Every step leaves an entry in the job's log; the job's row must be locked.
Not covered: who may ask for a step (`registry.jobs.queue`).
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from registry.access import audit
from registry.jobs.types import EndStatus, Json, Note
from registry.storage.columns import now
from registry.storage.database import WriteSession
from registry.storage.job_models import JobEventRow, JobRow

_LONGEST_MESSAGE = 10_000
LOST = "worker_lost"
_STOPPED = Note("Its worker stopped; the job waits to go on.")


def say(session: WriteSession, job: str, note: Note) -> None:
    """Add an entry to a job's log.

    Numbers that are not finite become null: JSON has none. Characters that no database keeps
    become others.
    """
    session.add(
        JobEventRow(
            job=job, at=note.at or now(), level=note.level, kind=note.kind,
            message=_kept(note.message)[:_LONGEST_MESSAGE], data=plain(note.data),
        )
    )  # fmt: skip


def begin(
    session: WriteSession, row: JobRow, worker: str, device: str | None, moment: datetime
) -> None:
    """Give a queued job to a worker."""
    row.status, row.worker, row.device = "running", worker, device
    row.attempts += 1
    row.heartbeat_at = moment
    again = row.started_at is not None
    row.started_at = row.started_at or moment
    data = {"worker": worker, "device": device, "attempt": row.attempts}
    say(session, row.id, Note("The job goes on." if again else "The job began.", data=data))


def end(
    session: WriteSession,
    row: JobRow,
    status: EndStatus,
    actor: str,
    error: Json | None = None,
    model: str | None = None,
) -> None:
    """End a job that waits or runs, for good."""
    row.status, row.finished_at = status, now()
    row.error = None if error is None else _kept_error(error)
    row.model = model
    if status == "failed":
        reason = f": {row.error['message']}" if row.error else "."
        said = Note(f"The job failed{reason}", "error", data=row.error or {})
    elif status == "succeeded":
        said = Note("The job succeeded.", data={"model": model})
    else:
        said = Note("The job was cancelled.", "warn")
    say(session, row.id, said)
    detail = {"status": status, "model": model, "error": row.error}
    audit.record(session, actor, "job.finished", row.id, namespace=row.namespace, **detail)


def put_back(session: WriteSession, row: JobRow, actor: str, why: Note = _STOPPED) -> None:
    """Have a running job wait for another worker; one whose cancel was asked for has ended."""
    if row.cancel_asked_at is not None:
        end(session, row, "cancelled", actor)
        return
    row.status, row.worker, row.device = "queued", None, None
    say(session, row.id, why)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: a float that is not finite becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _kept(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _kept_error(error: Json) -> dict[str, Any]:
    return {**plain(error), "message": _kept(str(error["message"]))[:_LONGEST_MESSAGE]}
