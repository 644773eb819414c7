"""SQL statements for files and jobs.

Reads take a `ReadSession`, writes a `WriteSession`; none commits. Rows of a namespace are returned
only to callers with access to it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Select, and_, case, func, or_, select, update
from sqlalchemy.orm import aliased, undefer

from registry.access.visibility import caller_of
from registry.errors import CursorInvalid
from registry.jobs.types import ACTIVE, Heartbeat
from registry.storage.database import ReadSession, WriteSession
from registry.storage.job_models import FileRow, JobEventRow, JobRow
from registry.types import JobStatus

R = TypeVar("R", FileRow, JobRow)


def _visible(session: ReadSession, table: type[R]) -> Select[R]:
    namespace = caller_of(session).namespace
    query = select(table)
    if issubclass(table, FileRow):
        query = query.where(FileRow.removed_at.is_(None))
    return query if namespace is None else query.where(table.namespace == namespace)


def place_of(
    session: ReadSession, table: type[R], row_id: str | None
) -> tuple[datetime, str] | None:
    """Return the sort key of the row that ended a page, even if it was removed; None for no page.

    Raises:
        CursorInvalid: the caller cannot see the row.
    """
    if row_id is None:
        return None
    namespace = caller_of(session).namespace
    query = select(table.created_at).where(table.id == row_id)
    query = query if namespace is None else query.where(table.namespace == namespace)
    moment = session.scalar(query)
    if moment is None:
        raise CursorInvalid
    return moment, row_id


def _newest_first(
    query: Select[R], table: type[R], after: tuple[datetime, str] | None
) -> Select[R]:
    if after is not None:
        moment, id_ = after
        same = and_(table.created_at == moment, table.id < id_)
        query = query.where(or_(table.created_at < moment, same))
    return query.order_by(table.created_at.desc(), table.id.desc())


# Files ------------------------------------------------------------------------------------------


def file(session: ReadSession, file_id: str) -> FileRow | None:
    """Return a file unless it was removed."""
    return session.scalar(_visible(session, FileRow).where(FileRow.id == file_id))


def locked_file(session: WriteSession, file_id: str) -> FileRow | None:
    """Return a file unless it was removed, locked against use and removal by others."""
    return session.scalar(_visible(session, FileRow).where(FileRow.id == file_id).with_for_update())


def files(
    session: ReadSession, purpose: str | None, after: tuple[datetime, str] | None, limit: int
) -> Sequence[FileRow]:
    """Return files, newest first, that come after the given sort key."""
    query = _newest_first(_visible(session, FileRow), FileRow, after)
    query = query if purpose is None else query.where(FileRow.purpose == purpose)
    return session.scalars(query.limit(limit)).all()


def removed_files(session: ReadSession, some: Collection[str]) -> Sequence[str]:
    """Return which of some files, by id, were removed."""
    row = FileRow
    return session.scalars(
        select(row.id).where(row.id.in_(some), row.removed_at.is_not(None))
    ).all()


def active_user_of(session: ReadSession, file: str) -> str | None:
    """Return an active job, of any namespace, that uses a file."""
    uses = or_(JobRow.training_file == file, JobRow.validation_file == file)
    query = select(JobRow.id).where(JobRow.status.in_(ACTIVE), uses)
    return session.scalar(query.order_by(JobRow.created_at, JobRow.id).limit(1))


# Jobs -------------------------------------------------------------------------------------------


def job(session: ReadSession, job_id: str) -> JobRow | None:
    """Return a job."""
    return session.scalar(_visible(session, JobRow).where(JobRow.id == job_id))


def locked_job(session: WriteSession, job_id: str) -> JobRow | None:
    """Return a job, locked against changes by others."""
    return session.scalar(_visible(session, JobRow).where(JobRow.id == job_id).with_for_update())


def job_with_report(session: ReadSession, job_id: str) -> JobRow | None:
    """Return a job with its report."""
    query = _visible(session, JobRow).where(JobRow.id == job_id)
    return session.scalar(query.options(undefer(JobRow.report)))


def jobs(
    session: ReadSession, status: JobStatus | None, after: tuple[datetime, str] | None, limit: int
) -> Sequence[JobRow]:
    """Return jobs, newest first, that come after the given sort key."""
    query = _newest_first(_visible(session, JobRow), JobRow, after)
    query = query if status is None else query.where(JobRow.status == status)
    return session.scalars(query.limit(limit)).all()


def queued(session: ReadSession, bases: Collection[str]) -> Sequence[str]:
    """Return the ids of the queued jobs for these bases."""
    row = JobRow
    query = select(row.id).where(row.status == "queued", row.base.in_(bases))
    return session.scalars(query.order_by(row.created_at, row.id)).all()


def next_queued(session: WriteSession, among: Sequence[str] | None) -> JobRow | None:
    """Return the queued job whose turn it is, unless another worker is claiming it, locked.

    `among` limits the choice to jobs with these ids.

    Namespaces take turns: first the one with the fewest running jobs, then the one whose last start
    is longest ago, and of its jobs the oldest.
    """
    other = aliased(JobRow)
    running = func.count(case((other.status == "running", 1)))
    shares = (
        select(other.namespace, running.label("running"), func.max(other.started_at).label("last"))
        .group_by(other.namespace)
        .subquery()
    )
    same = JobRow.namespace.is_not_distinct_from(shares.c.namespace)
    query = select(JobRow).join(shares, same).where(JobRow.status == "queued")
    query = query if among is None else query.where(JobRow.id.in_(among))
    turn = shares.c.running, shares.c.last.asc().nulls_first(), JobRow.created_at, JobRow.id
    query = query.order_by(*turn).limit(1)
    return session.scalar(query.with_for_update(of=JobRow, skip_locked=True))


def silent(session: WriteSession, seconds: float) -> Sequence[JobRow]:
    """Return running jobs without a heartbeat in the last `seconds`, oldest first, locked.

    A heartbeat of the future is of a time before the database's clock was set back.
    """
    moment, limit = clock(session), timedelta(seconds=seconds)
    beat = JobRow.heartbeat_at
    query = select(JobRow).where(
        JobRow.status == "running", or_(beat < moment - limit, beat > moment + limit)
    )
    query = query.order_by(JobRow.created_at, JobRow.id)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def clock(session: ReadSession) -> datetime:
    """Return the time of the database: the clocks of gateways differ from each other."""
    if session.get_bind().dialect.name == "postgresql":
        moment: datetime = session.scalars(select(func.clock_timestamp())).one()
        return moment
    text = session.scalars(select(func.strftime("%Y-%m-%dT%H:%M:%f+00:00", "now"))).one()
    return datetime.fromisoformat(text)


def lock_job(session: WriteSession, job_id: str) -> bool:
    """Lock a job without loading it; return whether it exists."""
    query = select(JobRow.id).where(JobRow.id == job_id)
    return session.scalar(query.with_for_update()) is not None


def beat(session: WriteSession, job_id: str, worker: str, moment: datetime) -> Heartbeat:
    """Record a heartbeat if the worker owns the job; return ownership and cancellation."""
    row = JobRow
    change = update(row).where(row.id == job_id, row.status == "running", row.worker == worker)
    change = change.values(heartbeat_at=moment).execution_options(synchronize_session=False)
    updated = session.execute(change.returning(row.cancel_asked_at)).one_or_none()
    cancel = updated is not None and updated[0] is not None
    return Heartbeat(owned=updated is not None, cancel=cancel)


def active_members(session: ReadSession) -> set[str]:
    """Return the digests of the members of all active jobs."""
    requests = session.scalars(select(JobRow.request).where(JobRow.status.in_(ACTIVE)))
    return {member["digest"] for request in requests for member in request.get("members") or ()}


# Events -----------------------------------------------------------------------------------------


def events(
    session: ReadSession, job: str, after: int | None, limit: int, *, oldest_first: bool
) -> Sequence[JobEventRow]:
    """Return entries of a job's log after an entry, or before it when the newest come first."""
    row = JobEventRow
    query = select(row).where(row.job == job).limit(limit)
    if after is not None:
        query = query.where(row.id > after if oldest_first else row.id < after)
    return session.scalars(query.order_by(row.id if oldest_first else row.id.desc())).all()
