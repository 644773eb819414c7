"""The transitions between a job's statuses, in a transaction of `registry.jobs.queue`.

    queued ── running ── succeeded | failed | cancelled
       └───────── cancelled          running ── queued (its worker stopped or no longer responds)

Every transition adds an entry to the job's log. The caller must hold a lock on the job's row.
Not covered: permission for a transition (`registry.jobs.queue`).
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
_STOPPED = Note("The worker stopped; the job was requeued.")


def say(session: WriteSession, job: str, note: Note) -> None:
    """Add an entry to a job's log.

    JSON has no NaN or infinity, so such numbers become null. NUL and unpaired surrogates, which no
    database stores, are replaced.
    """
    session.add(
        JobEventRow(
            job=job, at=note.at or now(), level=note.level, kind=note.kind,
            message=_storable(note.message)[:_LONGEST_MESSAGE], data=plain(note.data),
        )
    )  # fmt: skip


def begin(
    session: WriteSession, row: JobRow, worker: str, device: str | None, moment: datetime
) -> None:
    """Assign a queued job to a worker."""
    row.status, row.worker, row.device = "running", worker, device
    row.attempts += 1
    row.heartbeat_at = moment
    resumed = row.started_at is not None
    row.started_at = row.started_at or moment
    data = {"worker": worker, "device": device, "attempt": row.attempts}
    message = "The job resumed." if resumed else "The job started."
    say(session, row.id, Note(message, data=data))


def end(
    session: WriteSession,
    row: JobRow,
    status: EndStatus,
    actor: str,
    error: Json | None = None,
    model: str | None = None,
) -> None:
    """End an active job permanently."""
    row.status, row.finished_at = status, now()
    row.error = None if error is None else _storable_error(error)
    row.model = model
    if status == "failed":
        reason = f": {row.error['message']}" if row.error else "."
        note = Note(f"The job failed{reason}", "error", data=row.error or {})
    elif status == "succeeded":
        note = Note("The job succeeded.", data={"model": model})
    else:
        note = Note("The job was cancelled.", "warn")
    say(session, row.id, note)
    details = {"status": status, "model": model, "error": row.error}
    audit.record(session, actor, "job.finished", row.id, namespace=row.namespace, **details)


def put_back(session: WriteSession, row: JobRow, actor: str, why: Note = _STOPPED) -> None:
    """Requeue a running job, or end it if its cancellation was requested."""
    if row.cancel_asked_at is not None:
        end(session, row, "cancelled", actor)
        return
    row.status, row.worker, row.device = "queued", None, None
    say(session, row.id, why)


def plain(value: Any) -> Any:
    """Return a value for JSON: a float that is not finite becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _storable_error(error: Json) -> dict[str, Any]:
    return {**plain(error), "message": _storable(str(error["message"]))[:_LONGEST_MESSAGE]}
