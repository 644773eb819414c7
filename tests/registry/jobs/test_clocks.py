"""Heartbeats are compared by the clock of the database, never by those of gateways."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from registry.jobs import queries, queue
from registry.service import Registry
from registry.storage import columns
from registry.storage.database import Database
from registry.storage.job_models import JobRow
from tests.registry.jobs.rows import job_id
from tests.registry.jobs.rows import queue as queue_job

SILENCE = 20.0


def shifted(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock of this gateway off by so many seconds."""

    def now() -> datetime:
        return columns.now() + timedelta(seconds=seconds)

    monkeypatch.setattr(queue, "now", now)
    monkeypatch.setattr("registry.jobs.steps.now", now)


@pytest.mark.parametrize("seconds", [-25.0, 25.0])
def test_a_gateway_with_a_wrong_clock_takes_no_healthy_job_away(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """A job that beats stays with its worker, whichever gateway's clock is 25 s off."""
    queue_job(registry, 1)
    assert registry.jobs.claim("a", None) is not None
    registry.jobs.beat(job_id(1), "a")
    with monkeypatch.context() as other_gateway:
        shifted(seconds, other_gateway)
        assert () == registry.jobs.requeue(SILENCE)
        assert registry.jobs.beat(job_id(1), "a").owned
    assert () == registry.jobs.requeue(SILENCE)


def test_a_claim_starts_by_the_clock_of_the_database(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway whose clock is an hour slow claims a job, and no other takes it away."""
    queue_job(registry, 1)
    with monkeypatch.context() as slow:
        shifted(-3600.0, slow)
        assert registry.jobs.claim("a", None) is not None
    assert () == registry.jobs.requeue(SILENCE)


def test_a_clock_that_was_set_back_hides_no_dead_worker(
    registry: Registry, database: Database
) -> None:
    """A heartbeat from before the database's clock was set back an hour counts as silence."""
    queue_job(registry, 1)
    registry.jobs.claim("a", None)
    with database.transaction() as session:
        future = queries.clock(session) + timedelta(hours=1)
        session.execute(update(JobRow).values(heartbeat_at=future))
    assert [job_id(1)] == [job.id for job in registry.jobs.requeue(SILENCE)]
