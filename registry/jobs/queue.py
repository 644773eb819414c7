"""Jobs as rows: asked for by a caller, run by one worker at a time, watched through their log.

A worker claims a job, sends a heartbeat every second or so, and finishes the job. When its
heartbeats stop, another worker takes over; the answer to its next heartbeat says so. Each claim has
a worker name of its own, so a worker is never mistaken for the one before.
A job belongs to its caller's namespace and is seen from there alone; workers see all.
Not covered: what a job does (`merge.adaptive`) and the process that does it (`server.jobs`).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
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
            id: one that no job ever had.
            base: that the result is for; any of its spellings.
            request: what was asked for, as JSON. The files of the adapters in its `members`, a list
                of {"reference", "digest"}, are kept until the job has ended.
            training_file: id of a file that is visible to the caller.
            validation_file: of another one.
            name: that the result is to have.
            seed: of everything random in it.
            actor: who asks.
            caller: for whom; it is found by callers of the same namespace.

        Raises:
            NameInvalid: by the grammar of `registry.references`.
            UnknownBase: as it says.
            UnknownFile: naming the parameter.
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
            said = {"base": row.base, "name": name, "training_file": training_file}
            audit.record(session, actor, "job.created", id, namespace=row.namespace, **said)
            return value_of(Job, row)

    def get(self, job_id: str, *, caller: Caller = LOCAL) -> Job:
        """Return a job.

        Raises:
            UnknownJob: no such row is visible to the caller.
        """
        with self._database.read(caller) as session:
            return value_of(Job, _found(job_queries.job(session, job_id), job_id))

    def report(self, job_id: str, *, caller: Caller = LOCAL) -> Json | None:
        """Return what a job found, or None when it has ended without or goes on.

        Raises:
            UnknownJob: as `get`.
        """
        with self._database.read(caller) as session:
            return _found(job_queries.job_with_report(session, job_id), job_id).report

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
            cursor: where the page before ended; the key of the list "jobs" is a job's id.
            limit: how many.
            status: only jobs of this one.
            caller: only jobs that are visible to this one.

        Raises:
            CursorInvalid: it is not one of this list's, or of a job that `caller` cannot see.
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

        Entries come in the order of their ids also while workers write, so reading oldest first and
        going on after the last entry misses none. The entry of the end is there as soon as the
        job's status says so.

        Raises:
            UnknownJob: as `get`.
        """
        with self._database.read(caller) as session:
            _found(job_queries.job(session, job_id), job_id)
            rows = job_queries.events(session, job_id, after, limit + 1, oldest_first=oldest_first)
            return paged("events", rows, limit, lambda row: row.id, partial(value_of, JobEvent))

    def cancel(self, job_id: str, *, actor: str = "local", caller: Caller = LOCAL) -> Job:
        """End a job that waits; have the worker of one that runs told to; return the job.

        Asking again changes nothing.

        Raises:
            UnknownJob: as `get`.
            JobFinished: it has ended already.
        """
        with self._database.transaction(caller) as session:
            row = _found(job_queries.locked_job(session, job_id), job_id)
            if row.status not in ACTIVE:
                raise JobFinished(job_id, row.status)
            if row.cancel_asked_at is None:
                row.cancel_asked_at = now()
                audit.record(session, actor, "job.cancelled", job_id, namespace=row.namespace)
                if row.status == "queued":
                    job_steps.end(session, row, "cancelled", actor)
                else:
                    job_steps.say(session, job_id, Note("The job's end was asked for.", "warn"))
            return value_of(Job, row)

    def publish(
        self,
        job_id: str,
        model: str,
        *,
        actor: str = "local",
        caller: Caller = LOCAL,
    ) -> Job:
        """Write down the reference that a job's result answers to from now on.

        Raises:
            UnknownJob: as `get`.
            JobNotSucceeded: it has not, or not yet.
        """
        with self._database.transaction(caller) as session:
            row = _found(job_queries.locked_job(session, job_id), job_id)
            if row.status != "succeeded":
                raise JobNotSucceeded(job_id, row.status)
            if row.model != model:
                moved = {"from": row.model, "to": model}
                row.model = model
                job_steps.say(session, job_id, Note(f"Its result is {model} now.", data=moved))
                audit.record(
                    session, actor, "job.published", job_id, namespace=row.namespace, **moved
                )
            return value_of(Job, row)

    # For workers

    def claim(
        self,
        worker: str,
        device: str | None,
        *,
        base: str | None = None,
        moment: datetime | None = None,
    ) -> Job | None:
        """Take the job that has waited longest, or return None when none waits.

        However many ask at once, in whatever processes, no two get the same.

        Args:
            worker: a name that no other claim has.
            device: that it will run on.
            base: only jobs for the base of this very name.
            moment: when the job begins; now unless it is given.
        """
        with self._database.transaction() as session:
            row = job_queries.next_queued(session, base)
            if row is None:
                return None
            job_steps.begin(session, row, worker, device, moment or now())
            return value_of(Job, row)

    def beat(self, job_id: str, worker: str) -> Heartbeat:
        """Record a worker's heartbeat; return whether it still has the job and should go on."""
        with self._database.transaction() as session:
            return job_queries.beat(session, job_id, worker, now())

    def note(self, job_id: str, notes: Iterable[Note]) -> None:
        """Add entries to a job's log, all or none.

        Raises:
            UnknownJob: there is none.
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
        """End a job that this worker has; say whether it was: else nothing is changed.

        Args:
            job_id: which one.
            worker: whose it is.
            status: how it ended.
            report: what it found, as JSON.
            error: of a failed one: {"code", "message", "param"}.
            model: the reference that answers.
            trained_tokens: how many it learnt from.
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
        """Have a job of this worker's wait for another, at an orderly stop; say whether it was.

        The stop does not count as an attempt; a job whose end was asked for has ended then.
        """
        with self._database.transaction() as session:
            row = _of_worker(session, job_id, worker)
            if row is None:
                return False
            row.attempts -= 1
            job_steps.put_back(session, row, worker)
            return True

    def requeue(self, silent_for_seconds: float, *, most_attempts: int = 3) -> tuple[Job, ...]:
        """Have jobs whose workers have fallen silent wait for others, and return them.

        One that was begun `most_attempts` times fails instead, and one whose end was asked for has
        ended.
        """
        with self._database.transaction() as session:
            since = now() - timedelta(seconds=silent_for_seconds)
            silent = job_queries.silent_since(session, since)
            for row in silent:
                if row.attempts >= most_attempts and row.cancel_asked_at is None:
                    times = f"{row.attempts} times" if row.attempts > 1 else "once"
                    message = f"its worker fell silent, and it was begun {times}: not again"
                    error = {"code": LOST, "message": message, "param": None}
                    job_steps.end(session, row, "failed", "local", error)
                else:
                    why = Note("Its worker fell silent; the job waits to go on.", "warn")
                    job_steps.put_back(session, row, "local", why)
            return tuple(value_of(Job, row) for row in silent)


def _found(row: JobRow | None, job_id: str) -> JobRow:
    if row is None:
        raise UnknownJob(job_id)
    return row


def _of_worker(session: WriteSession, job_id: str, worker: str) -> JobRow | None:
    row = job_queries.locked_job(session, job_id)
    mine = row is not None and row.status == "running" and row.worker == worker
    return row if mine else None


def _lock_files(session: WriteSession, training: str, validation: str | None) -> None:
    """Keep a job's files from being removed until its row is there.

    Raises:
        UnknownFile: one of them cannot be found.
    """
    wanted = {training: "training_file"}
    if validation is not None:
        wanted.setdefault(validation, "validation_file")
    for id_, param in sorted(wanted.items()):  # in one order, so that no two wait for each other
        if job_queries.locked_file(session, id_) is None:
            raise UnknownFile(id_, param)
