"""The job queue as callers see it: create, list, watch, cancel, publish."""

import math

import pytest

from registry.callers import LOCAL
from registry.errors import CursorInvalid, NameInvalid, UnknownBase
from registry.jobs.errors import JobFinished, JobNotSucceeded, UnknownFile, UnknownJob
from registry.jobs.types import JobEvent, Note
from registry.paging import cursor_at
from registry.service import Registry
from registry.storage.errors import Conflict
from tests.registry.conftest import BASE
from tests.registry.jobs.rows import OTHER, TEAM, job_id, messages, put_file, queue


def test_what_was_asked_for_comes_back(registry: Registry) -> None:
    """A new job returns every field of its request, is queued, and has its author and time."""
    training, validation = put_file(registry, 1).id, put_file(registry, 2).id
    request = {"members": [{"reference": "law@1", "digest": "0" * 64}], "k": [2, 5], "é": None}
    made = queue(
        registry, 1, request=request, training_file=training, validation_file=validation, seed=2**40
    )
    assert made == registry.jobs.get(job_id(1))
    assert ("queued", BASE, request, training, validation, "law", 2**40, "ada", 0) == (
        made.status, made.base, made.request, made.training_file, made.validation_file, made.name,
        made.seed, made.created_by, made.attempts,
    )  # fmt: skip
    assert {None} == {
        made.model, made.namespace, made.started_at, made.finished_at, made.heartbeat_at,
        made.worker, made.device, made.cancel_asked_at, made.error, made.trained_tokens,
    }  # fmt: skip
    assert made.active
    assert registry.jobs.report(job_id(1)) is None
    assert ["The job was queued."] == messages(registry, 1)


def test_the_base_may_be_spelled_differently(registry: Registry) -> None:
    """A job stores the registered name of its base; an unknown base is refused."""
    assert BASE == queue(registry, 1, base=BASE.lower()).base
    with pytest.raises(UnknownBase, match=BASE):
        queue(registry, 2, base="acme/huge")


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_job_needs_files_that_are_there(registry: Registry, param: str) -> None:
    """The error names the parameter with the unknown file, and no job is created."""
    with pytest.raises(UnknownFile) as caught:
        queue(registry, 1, **{param: "file-x"})
    assert ("file-x", param) == (caught.value.id, caught.value.param)
    assert () == registry.jobs.page().items


def test_a_job_may_validate_on_what_it_learns(registry: Registry) -> None:
    """The registry accepts one file for training and validation; the server decides."""
    file = put_file(registry, 1).id
    assert file == queue(registry, 1, training_file=file, validation_file=file).validation_file


def test_what_cannot_be_is_refused(registry: Registry) -> None:
    """An id that is taken and an invalid name are refused."""
    queue(registry, 1)
    with pytest.raises(Conflict, match="pk_jobs"):
        queue(registry, 1, training_file=put_file(registry, 2).id)
    with pytest.raises(NameInvalid):
        queue(registry, 3, name="no name")


def test_pages_go_from_the_newest_and_do_not_shift(registry: Registry) -> None:
    """Jobs that are created between two pages do not shift the next page."""
    ids = [queue(registry, n).id for n in (3, 1, 4, 2, 5)]
    first = registry.jobs.page(limit=2)
    queue(registry, 9)
    second = registry.jobs.page(limit=2, cursor=first.next_cursor)
    third = registry.jobs.page(limit=2, cursor=second.next_cursor)
    seen = [job.id for page in (first, second, third) for job in page.items]
    assert (ids[::-1], None) == (seen, third.next_cursor)
    for after in ("", "x", put_file(registry, 1).id):
        with pytest.raises(CursorInvalid):
            registry.jobs.page(cursor=cursor_at("jobs", after))


def test_a_page_may_be_of_one_status(registry: Registry) -> None:
    """A page of one status leaves out and does not count other jobs."""
    queue(registry, 1)
    queue(registry, 2)
    registry.jobs.cancel(job_id(1))
    page = registry.jobs.page(status="cancelled", limit=1)
    assert ([job_id(1)], None) == ([job.id for job in page.items], page.next_cursor)


def test_a_namespace_has_its_own_jobs(registry: Registry) -> None:
    """No operation of another namespace reaches a job; callers without one reach all jobs."""
    job, free = queue(registry, 1, caller=TEAM), queue(registry, 2)
    assert ("team", None) == (job.namespace, free.namespace)
    assert job == registry.jobs.get(job.id, caller=TEAM) == registry.jobs.get(job.id)
    assert [job] == list(registry.jobs.page(caller=TEAM).items)
    assert [free, job] == list(registry.jobs.page(caller=LOCAL).items)
    for hidden, caller in ((job, OTHER), (free, TEAM)):
        with pytest.raises(UnknownJob, match=hidden.id):
            registry.jobs.get(hidden.id, caller=caller)
        with pytest.raises(UnknownJob):
            registry.jobs.report(hidden.id, caller=caller)
        with pytest.raises(UnknownJob):
            registry.jobs.events(hidden.id, oldest_first=True, caller=caller)
        with pytest.raises(UnknownJob):
            registry.jobs.cancel(hidden.id, caller=caller)
        with pytest.raises(UnknownJob):
            registry.jobs.publish(hidden.id, "law@1", caller=caller)
        with pytest.raises(CursorInvalid):
            registry.jobs.page(cursor=cursor_at("jobs", hidden.id), caller=caller)


def test_a_log_is_read_from_either_end(registry: Registry) -> None:
    """The pages of a log contain each entry once and no entry of another job."""
    queue(registry, 1)
    queue(registry, 2)
    notes = [Note(f"{n}", "warn", "metrics", {"loss": n / 2}) for n in range(5)]
    registry.jobs.note(job_id(1), notes)
    registry.jobs.note(job_id(2), [Note("another's")])
    for oldest_first in (True, False):
        seen: list[JobEvent] = []
        more = True
        while more:
            after = seen[-1].id if seen else None
            page = registry.jobs.events(job_id(1), after=after, limit=2, oldest_first=oldest_first)
            seen += page.items
            more = page.next_cursor is not None
        seen = seen if oldest_first else seen[::-1]
        assert ["The job was queued.", *"01234"] == [event.message for event in seen]
        assert sorted(event.id for event in seen) == [event.id for event in seen]
        event = seen[-1]
        assert (job_id(1), "warn", "metrics", {"loss": 2}) == (
            event.job, event.level, event.kind, event.data,
        )  # fmt: skip


def test_what_no_database_keeps_does_not_stop_a_log(registry: Registry) -> None:
    """A log accepts NaN, NUL, an unpaired surrogate and a message of a megabyte."""
    queue(registry, 1)
    registry.jobs.note(
        job_id(1),
        [
            Note("\0\ud800", data={"loss": math.nan, "all": [math.inf, (1, {"a": -math.inf})]}),
            Note("x" * 2**20),
        ],
    )
    first, long = registry.jobs.events(job_id(1), after=1, oldest_first=True).items
    assert ("\ufffd?", {"loss": None, "all": [None, [1, {"a": None}]]}) == (
        first.message, first.data,
    )  # fmt: skip
    assert "x" * 10_000 == long.message
    with pytest.raises(UnknownJob):
        registry.jobs.note("ftjob-x", [])


def test_a_job_that_waits_is_cancelled_at_once(registry: Registry) -> None:
    """A queued job is cancelled at once: no worker claims it, and a second cancel is refused."""
    queue(registry, 1)
    job = registry.jobs.cancel(job_id(1), actor="bob")
    assert ("cancelled", True, False) == (job.status, job.finished_at is not None, job.active)
    assert registry.jobs.claim("w", None) is None
    assert ["The job was queued.", "The job was cancelled."] == messages(registry, 1)
    with pytest.raises(JobFinished, match=r"has ended \(cancelled\)"):
        registry.jobs.cancel(job_id(1))


def test_a_job_that_runs_is_asked_to_end(registry: Registry) -> None:
    """A worker learns of a cancel from its next heartbeat; a second request changes nothing."""
    queue(registry, 1)
    registry.jobs.claim("w", None)
    job = registry.jobs.cancel(job_id(1))
    assert ("running", True) == (job.status, job.cancel_asked_at is not None)
    assert job == registry.jobs.cancel(job_id(1))
    assert registry.jobs.beat(job_id(1), "w").cancel
    assert registry.jobs.finish(job_id(1), "w", "cancelled")
    assert "cancelled" == registry.jobs.get(job_id(1)).status
    assert 1 == messages(registry, 1).count("Cancellation was requested.")


def test_a_job_that_has_ended_cannot_be_cancelled(registry: Registry) -> None:
    """Cancelling an ended job is an error that names its status."""
    queue(registry, 1)
    registry.jobs.claim("w", None)
    registry.jobs.finish(job_id(1), "w", "succeeded")
    with pytest.raises(JobFinished, match=r"has ended \(succeeded\)"):
        registry.jobs.cancel(job_id(1))


def test_the_result_of_a_job_that_succeeded_is_published(registry: Registry) -> None:
    """A result can be published under another reference later; the same one changes nothing."""
    queue(registry, 1)
    registry.jobs.claim("w", None)
    with pytest.raises(JobNotSucceeded, match="is running"):
        registry.jobs.publish(job_id(1), "law@1")
    registry.jobs.finish(job_id(1), "w", "succeeded", report={"best": "fresh"})
    for model in ("law@1", "law@2", "law@2"):
        assert model == registry.jobs.publish(job_id(1), model).model
    assert "law@2" == registry.jobs.get(job_id(1)).model
    assert [f"The result was published as law@{number}." for number in (1, 2)] == messages(
        registry, 1
    )[-2:]
    assert {"best": "fresh"} == registry.jobs.report(job_id(1))
