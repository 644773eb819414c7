"""The job queue: callers create jobs and read their logs; one worker at a time runs a job.

A worker claims a job, sends a heartbeat every second or so, and finishes the job. When its
heartbeats stop, another worker takes over, and the first learns it from the answer to its next
heartbeat. Each claim has a unique worker name, so that a worker is never mistaken for its
predecessor. A job belongs to its caller's namespace and is visible only there; workers see all.
Not covered: the work of a job (`merge.adaptive`) and its process (`server.jobs`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from registry.access import audit
from registry.callers import LOCAL, Caller
from registry.jobs import queries as job_queries
from registry.jobs import steps as job_steps
from registry.jobs.errors import JobFinished, JobNotSucceeded, UnknownFile, UnknownJob
from registry.jobs.steps import LOST
from registry.jobs.types import ACTIVE, EndStatus, Heartbeat, Job, JobEvent, Json, Note
from registry.paging import Page, key_of, paged
from registry.references import check_name
from registry.storage.columns import now
from registry.storage.database import Database, WriteSession
from registry.storage.insert import insert
from registry.storage.job_models import JobRow
from registry.storage.values import value_of
from registry.types import JobStatus
from registry.versions import known_bases


class Jobs:
    """The jobs of a registry. Safe to share by threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # For callers

    def create(
        self,
        *,
        id: str,  # noqa: A002 - the name it has everywhere
        base: str,
        request: Mapping[str, Any],
        training_file: str,
        validation_file: str | None = None,
        name: str,
        seed: int,
        actor: str = "local",
        caller: Caller = LOCAL,
    ) -> Job:
        """Queue a job.

        Args:
            id: an id that no job has or had.
            base: the base of the result, in any spelling.
            request: the validated request, as JSON. The files of the adapters in its `members`, a
                list of {"reference", "digest"}, are kept until the job has ended.
            training_file: the id of a file that the caller sees.
            validation_file: the id of another such file.
            name: the name of the result.
            seed: the seed of every random draw.
            actor: the author, for the audit log.
            caller: the owner; callers of the same namespace see the job.

        Raises:
            NameInvalid: the name violates the grammar of `registry.references`.
            UnknownBase: the base is not registered.
            UnknownFile: a file is unknown; the error names the parameter.
            Conflict: a job has or had this id.
        """
        check_name(name)
        with self._database.transaction(caller) as session:
            row = JobRow(
                id=id, status="queued", base=known_bases.find(session, base).name,
                request=job_steps.plain(request), training_file=training_file,
                validation_file=validation_file, name=name, seed=seed, namespace=caller.namespace,
                created_at=now(), created_by=actor, attempts=0,
            )  # fmt: skip
            _lock_files(session, training_file, validation_file)
            insert(session, row)
            job_steps.say(session, id, Note("The job was queued."))
            details = {"base": row.base, "name": name, "training_file": training_file}
            audit.record(session, actor, "job.created", id, namespace=row.namespace, **details)
            return value_of(Job, row)

    def get(self, job_id: str, *, caller: Caller = LOCAL) -> Job:
        """Return a job.

        Raises:
            UnknownJob: the caller sees no job with this id.
        """
        with self._database.read(caller) as session:
            return value_of(Job, _required(job_queries.job(session, job_id), job_id))

    def report(self, job_id: str, *, caller: Caller = LOCAL) -> Json | None:
        """Return a job's report, or None if it is still active or ended without one.

        Raises:
            UnknownJob: as `get`.
        """
        with self._database.read(caller) as session:
            return _required(job_queries.job_with_report(session, job_id), job_id).report

    def page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 100,
        status: JobStatus | None = None,
        caller: Caller = LOCAL,
    ) -> Page[Job]:
        """Return jobs, newest first.

        Args:
            cursor: the end of the previous page; the key of the list "jobs" is a job's id.
            limit: the page size.
            status: return only jobs of this status.
            caller: return only jobs that this caller sees.

        Raises:
            CursorInvalid: the cursor is of another list, or of a job that `caller` cannot see.
        """
        after = key_of("jobs", cursor, str)
        with self._database.read(caller) as session:
            place = job_queries.place_of(session, JobRow, after)
            rows = job_queries.jobs(session, status, place, limit + 1)
            return paged("jobs", rows, limit, lambda row: row.id, partial(value_of, Job))

    def events(
        self,
        job_id: str,
        *,
        after: int | None = None,
        limit: int = 100,
        oldest_first: bool,
        caller: Caller = LOCAL,
    ) -> Page[JobEvent]:
        """Return the entries of a job's log that come after the entry with the id `after`.

        Entries become visible in the order of their ids even while workers write, so a client that
        reads oldest first and continues after the last entry misses none. The final entry is
        written in the transaction that sets the final status.

        Raises:
            UnknownJob: as `get`.
        """
        with self._database.read(caller) as session:
            _required(job_queries.job(session, job_id), job_id)
            rows = job_queries.events(session, job_id, after, limit + 1, oldest_first=oldest_first)
            return paged("events", rows, limit, lambda row: row.id, partial(value_of, JobEvent))

    def cancel(self, job_id: str, *, actor: str = "local", caller: Caller = LOCAL) -> Job:
        """Cancel a queued job, or ask the worker of a running one to stop; return the job.

        A second call changes nothing.

        Raises:
            UnknownJob: as `get`.
            JobFinished: the job has already ended.
        """
        with self._database.transaction(caller) as session:
            row = _required(job_queries.locked_job(session, job_id), job_id)
            if row.status not in ACTIVE:
                raise JobFinished(job_id, row.status)
            if row.cancel_asked_at is None:
                row.cancel_asked_at = now()
                audit.record(session, actor, "job.cancelled", job_id, namespace=row.namespace)
                if row.status == "queued":
                    job_steps.end(session, row, "cancelled", actor)
                else:
                    job_steps.say(session, job_id, Note("Cancellation was requested.", "warn"))
            return value_of(Job, row)

    def publish(
        self,
        job_id: str,
        model: str,
        *,
        actor: str = "local",
        caller: Caller = LOCAL,
    ) -> Job:
        """Record the reference under which a job's result is served.

        Raises:
            UnknownJob: as `get`.
            JobNotSucceeded: the job has another status.
        """
        with self._database.transaction(caller) as session:
            row = _required(job_queries.locked_job(session, job_id), job_id)
            if row.status != "succeeded":
                raise JobNotSucceeded(job_id, row.status)
            if row.model != model:
                moved = {"from": row.model, "to": model}
                row.model = model
                job_steps.say(
                    session, job_id, Note(f"The result was published as {model}.", data=moved)
                )
                audit.record(
                    session, actor, "job.published", job_id, namespace=row.namespace, **moved
                )
            return value_of(Job, row)

    # For workers

    def members(self) -> set[str]:
        """Return the digests of the pools of queued and running jobs, which may still be read."""
        with self._database.read() as session:
            return job_queries.active_members(session)

    def queued(self, bases: Collection[str]) -> Sequence[str]:
        """Return the ids of the queued jobs for the bases of exactly these names, oldest first."""
        with self._database.read() as session:
            return job_queries.queued(session, bases)

    def claim(
        self,
        worker: str,
        device: str | None,
        *,
        among: Sequence[str] | None = None,
        moment: datetime | None = None,
    ) -> Job | None:
        """Claim the queued job whose turn it is, or return None if no job is queued.

        Namespaces take turns (`registry.jobs.queries.next_queued`), so that one with a hundred jobs
        delays another's by one. Concurrent claims, in any number of processes, never return the
        same job.

        Args:
            worker: a name that no other claim has.
            device: the device that the job runs on.
            among: claim only jobs with these ids.
            moment: the start of the job; now by default, by the clock of the database.
        """
        with self._database.transaction() as session:
            row = job_queries.next_queued(session, among)
            if row is None:
                return None
            started = moment or job_queries.clock(session)
            job_steps.begin(session, row, worker, device, started)
            return value_of(Job, row)

    def beat(self, job_id: str, worker: str) -> Heartbeat:
        """Record a worker's heartbeat; return whether it still owns the job and should continue."""
        with self._database.transaction(durable=False) as session:
            return job_queries.beat(session, job_id, worker, job_queries.clock(session))

    def note(self, job_id: str, notes: Iterable[Note]) -> None:
        """Add entries to a job's log, all or none.

        Raises:
            UnknownJob: no job has this id.
        """
        with self._database.transaction() as session:
            if not job_queries.lock_job(session, job_id):  # ids must grow in the order of commits
                raise UnknownJob(job_id)
            for note in notes:
                job_steps.say(session, job_id, note)

    def finish(
        self,
        job_id: str,
        worker: str,
        status: EndStatus,
        *,
        report: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        model: str | None = None,
        trained_tokens: int | None = None,
    ) -> bool:
        """End a job if this worker owns it; return whether it did. Otherwise nothing changes.

        Args:
            job_id: the job.
            worker: the worker that reports the end.
            status: the final status.
            report: the results, as JSON.
            error: {"code", "message", "param"} of a failed job.
            model: the reference that serves the result.
            trained_tokens: the number of training tokens.
        """
        with self._database.transaction() as session:
            row = _of_worker(session, job_id, worker)
            if row is None:
                return False
            row.report = None if report is None else job_steps.plain(report)
            row.trained_tokens = trained_tokens
            job_steps.end(session, row, status, worker, error, model)
            return True

    def release(self, job_id: str, worker: str) -> bool:
        """Requeue a job at an orderly stop if this worker owns it; return whether it did.

        The stop does not count as an attempt. A job with a requested cancellation ends instead.
        """
        with self._database.transaction() as session:
            row = _of_worker(session, job_id, worker)
            if row is None:
                return False
            row.attempts -= 1
            job_steps.put_back(session, row, worker)
            return True

    def requeue(self, silent_for_seconds: float, *, most_attempts: int = 3) -> tuple[Job, ...]:
        """Requeue jobs whose workers stopped sending heartbeats, and return them.

        A job that was started `most_attempts` times fails instead, and a job with a requested
        cancellation ends.
        """
        with self._database.transaction() as session:
            silent = job_queries.silent(session, silent_for_seconds)
            for row in silent:
                if row.attempts >= most_attempts and row.cancel_asked_at is None:
                    times = f"{row.attempts} times" if row.attempts > 1 else "once"
                    message = f"its worker stopped responding, and the job was started {times}"
                    error = {"code": LOST, "message": message, "param": None}
                    job_steps.end(session, row, "failed", "local", error)
                else:
                    why = Note("The worker stopped responding; the job was requeued.", "warn")
                    job_steps.put_back(session, row, "local", why)
            return tuple(value_of(Job, row) for row in silent)


def _required(row: JobRow | None, job_id: str) -> JobRow:
    if row is None:
        raise UnknownJob(job_id)
    return row


def _of_worker(session: WriteSession, job_id: str, worker: str) -> JobRow | None:
    row = job_queries.locked_job(session, job_id)
    owned = row is not None and row.status == "running" and row.worker == worker
    return row if owned else None


def _lock_files(session: WriteSession, training: str, validation: str | None) -> None:
    """Lock a job's files against removal until the job's row is inserted.

    Raises:
        UnknownFile: the caller sees no file with one of the ids.
    """
    wanted = {training: "training_file"}
    if validation is not None:
        wanted.setdefault(validation, "validation_file")
    for id_, param in sorted(wanted.items()):  # a fixed order prevents deadlocks
        if job_queries.locked_file(session, id_) is None:
            raise UnknownFile(id_, param)
