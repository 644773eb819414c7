"""The job queue as workers see it: claim, heartbeat, finish, loss and takeover."""

from datetime import timedelta

import pytest

from registry.jobs.steps import LOST
from registry.jobs.types import Heartbeat, Note
from registry.service import Registry
from registry.storage.columns import now
from tests.registry.conftest import BASE, SHAPES
from tests.registry.jobs.rows import OTHER, TEAM, job_id, messages, put_file, queue

LONG_AGO = timedelta(hours=1)
MINUTE = 60.0


def claimed(registry: Registry, worker: str = "w") -> str | None:
    """Claim a job with a start one hour ago, and return its id."""
    job = registry.jobs.claim(worker, "cuda:0", moment=now() - LONG_AGO)
    return None if job is None else job.id


def test_the_oldest_goes_first(registry: Registry) -> None:
    """A claim returns the oldest job of a namespace, or None if no job is queued."""
    ids = [queue(registry, n, caller=TEAM).id for n in (3, 1, 2)]
    assert [*ids, None] == [claimed(registry, f"w{n}") for n in range(4)]


def test_namespaces_share_the_devices(registry: Registry) -> None:
    """The next job is of the namespace with the fewest running ones, keys without one included."""
    greedy = [queue(registry, n, caller=TEAM).id for n in range(4)]
    other = [queue(registry, n, caller=OTHER).id for n in (10, 11)]
    unbound = queue(registry, 20).id
    got = [claimed(registry, f"w{n}") for n in range(8)]
    assert [greedy[0], other[0], unbound, greedy[1], other[1], *greedy[2:], None] == got


def test_namespaces_take_turns_on_one_device(registry: Registry) -> None:
    """However many jobs a namespace queued before, another's next job waits for one of them."""
    greedy = [queue(registry, n, caller=TEAM).id for n in range(4)]
    other = [queue(registry, n, caller=OTHER).id for n in (10, 11)]
    got = []
    for n in range(6):
        job = registry.jobs.claim(f"w{n}", None)
        assert job is not None
        got.append(job.id)
        registry.jobs.finish(job.id, f"w{n}", "failed")
    assert [greedy[0], other[0], greedy[1], other[1], *greedy[2:]] == got


def test_a_worker_takes_jobs_of_its_base(registry: Registry) -> None:
    """A gateway looks at the jobs of the bases that it serves alone, oldest first."""
    registry.bases.add("acme/other", shapes=SHAPES)
    queue(registry, 1, base="acme/other")
    queue(registry, 2)
    queue(registry, 3, base="acme/other")
    both = registry.jobs.queued({BASE, "acme/other"})
    assert [job_id(2)] == registry.jobs.queued({BASE})
    assert [job_id(number) for number in (1, 2, 3)] == both


def test_a_claimed_job_runs(registry: Registry) -> None:
    """A claim records worker, device, start and attempt."""
    queue(registry, 1)
    moment = now() - LONG_AGO
    job = registry.jobs.claim("w", "cuda:0", moment=moment)
    assert job == registry.jobs.get(job_id(1))
    assert job is not None
    assert ("running", "w", "cuda:0", moment, moment, 1) == (
        job.status, job.worker, job.device, job.started_at, job.heartbeat_at, job.attempts,
    )  # fmt: skip
    assert ["The job was queued.", "The job started."] == messages(registry, 1)


def test_a_beat_keeps_a_job(registry: Registry) -> None:
    """A heartbeat updates its time and returns ownership and cancellation."""
    queue(registry, 1)
    claimed(registry)
    assert Heartbeat(owned=True, cancel=False) == registry.jobs.beat(job_id(1), "w")
    assert () == registry.jobs.requeue(MINUTE)
    registry.jobs.cancel(job_id(1))
    assert Heartbeat(owned=True, cancel=True) == registry.jobs.beat(job_id(1), "w")
    not_owned = Heartbeat(owned=False, cancel=False)
    assert not_owned == registry.jobs.beat(job_id(1), "v")
    assert not_owned == registry.jobs.beat("ftjob-x", "w")


def test_a_job_ends_with_what_it_found(registry: Registry) -> None:
    """Report, model, token count and final log entry are stored together with the status."""
    queue(registry, 1)
    claimed(registry)
    report = {"candidates": [{"name": "base", "loss": float("nan")}], "deep": {"é": [1.5]}}
    assert registry.jobs.finish(
        job_id(1), "w", "succeeded", report=report, model="law@1", trained_tokens=2**40
    )
    job = registry.jobs.get(job_id(1))
    assert ("succeeded", "law@1", 2**40, None, "w", False) == (
        job.status, job.model, job.trained_tokens, job.error, job.worker, job.active,
    )  # fmt: skip
    assert job.finished_at is not None
    kept = {"candidates": [{"name": "base", "loss": None}], "deep": {"é": [1.5]}}
    assert kept == registry.jobs.report(job_id(1))
    assert "The job succeeded." == messages(registry, 1)[-1]
    assert not registry.jobs.beat(job_id(1), "w").owned


def test_a_job_that_failed_says_why(registry: Registry) -> None:
    """A failed job has its reason in its error and its log, whatever characters the reason has."""
    queue(registry, 1)
    claimed(registry)
    error = {"code": "loss_not_finite", "message": "at step 7\0", "param": None}
    assert registry.jobs.finish(job_id(1), "w", "failed", error=error, report={"step": 7})
    job = registry.jobs.get(job_id(1))
    assert ("failed", error | {"message": "at step 7\ufffd"}) == (job.status, job.error)
    assert {"step": 7} == registry.jobs.report(job_id(1))
    event = registry.jobs.events(job_id(1), limit=1, oldest_first=False).items[0]
    assert ("error", "The job failed: at step 7\ufffd", job.error) == (
        event.level, event.message, event.data,
    )  # fmt: skip


def test_only_who_has_a_job_ends_it(registry: Registry) -> None:
    """Only the owning worker ends a job, and only once; other workers change nothing."""
    queue(registry, 1)
    assert not registry.jobs.finish(job_id(1), "w", "succeeded")
    claimed(registry)
    before = registry.jobs.get(job_id(1))
    assert not registry.jobs.finish(job_id(1), "v", "failed", report={"a": 1})
    assert not registry.jobs.release(job_id(1), "v")
    assert not registry.jobs.finish("ftjob-x", "w", "succeeded")
    assert before == registry.jobs.get(job_id(1))
    assert registry.jobs.finish(job_id(1), "w", "succeeded")
    assert not registry.jobs.finish(job_id(1), "w", "failed")
    assert not registry.jobs.release(job_id(1), "w")
    assert "succeeded" == registry.jobs.get(job_id(1)).status
    assert 3 == len(messages(registry, 1))


def test_an_orderly_stop_hands_a_job_on(registry: Registry) -> None:
    """A released job keeps its place, its attempt and its first start."""
    queue(registry, 1)
    queue(registry, 2)
    claimed(registry)
    started = registry.jobs.get(job_id(1)).started_at
    assert registry.jobs.release(job_id(1), "w")
    job = registry.jobs.get(job_id(1))
    assert ("queued", None, None, 0) == (job.status, job.worker, job.device, job.attempts)
    assert not registry.jobs.beat(job_id(1), "w").owned
    again = registry.jobs.claim("v", None)
    assert again is not None
    assert (job_id(1), 1, started) == (again.id, again.attempts, again.started_at)
    assert ["The worker stopped; the job was requeued.", "The job resumed."] == (
        messages(registry, 1)[-2:]
    )


def test_a_job_whose_worker_fell_silent_is_taken_over(registry: Registry) -> None:
    """A job without heartbeats gets another worker; the first one learns it and can end nothing."""
    for number in (1, 2, 3):
        queue(registry, number)
    claimed(registry, "lost")
    registry.jobs.claim("alive", None)
    (job,) = registry.jobs.requeue(MINUTE)
    assert (job_id(1), "queued", 1) == (job.id, job.status, job.attempts)
    assert () == registry.jobs.requeue(MINUTE)
    taken = registry.jobs.claim("next", None)
    assert taken is not None
    assert (job_id(1), 2) == (taken.id, taken.attempts)
    assert not registry.jobs.beat(job_id(1), "lost").owned
    assert not registry.jobs.finish(job_id(1), "lost", "succeeded")
    assert registry.jobs.finish(job_id(1), "next", "succeeded")


@pytest.mark.parametrize("most", [1, 3])
def test_a_job_that_is_lost_too_often_fails(registry: Registry, most: int) -> None:
    """After the last attempt a lost job fails with the reason and without a report."""
    queue(registry, 1)
    for attempt in range(1, most + 1):
        claimed(registry, f"w{attempt}")
        (job,) = registry.jobs.requeue(MINUTE, most_attempts=most)
        assert ("failed" if attempt == most else "queued") == job.status
    job = registry.jobs.get(job_id(1))
    assert job.error is not None
    assert (LOST, None) == (job.error["code"], job.error["param"])
    assert "stopped responding" in job.error["message"]
    assert claimed(registry) is None


@pytest.mark.parametrize("orderly", [True, False])
def test_a_job_whose_end_was_asked_for_does_not_go_on(registry: Registry, orderly: bool) -> None:
    """A job with a requested cancellation ends when its worker stops or dies."""
    queue(registry, 1)
    claimed(registry)
    registry.jobs.cancel(job_id(1))
    if orderly:
        assert registry.jobs.release(job_id(1), "w")
    else:
        assert ["cancelled"] == [job.status for job in registry.jobs.requeue(0, most_attempts=1)]
    assert "cancelled" == registry.jobs.get(job_id(1)).status


def test_a_note_may_say_when_it_was(registry: Registry) -> None:
    """A note keeps its own time; without one it gets the current time."""
    queue(registry, 1, training_file=put_file(registry, 1).id)
    moment = now() - LONG_AGO
    registry.jobs.note(job_id(1), [Note("then", at=moment), Note("now")])
    then, later = registry.jobs.events(job_id(1), after=1, oldest_first=True).items
    assert moment == then.at
    assert later.at > moment
