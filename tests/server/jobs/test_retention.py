"""`weft gc` removes what jobs wrote that ended long ago, if a setting says so, and nothing else."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.job_models import JobRow
from server.gateway import Gateway
from server.jobs.publish import NotServable
from server.jobs.retention import remove_job_folders
from tests.server.jobs.conftest import MakeOutcome, queue


def test_folders_of_old_jobs_go(gateway: Gateway, make_outcome: MakeOutcome) -> None:
    """The folder of a job that ended before the days goes; those of younger and active jobs stay,
    and so do all without the setting. A candidate whose files are gone is not published."""
    old, young, active = (queue(gateway) for _ in range(3))
    for job in (old, young, active):
        gateway.storage.folder(job.id).mkdir(parents=True)
    for job in (old, young):
        gateway.registry.jobs.cancel(job.id)
    database = Database(gateway.settings.database)
    with database.transaction() as session:
        long_ago = now() - timedelta(days=8)
        session.execute(update(JobRow).where(JobRow.id == old.id).values(finished_at=long_ago))
    kept = gateway.settings
    week = kept.model_copy(update={"job_files_days": 7.0})
    assert [0, 1, 0] == [remove_job_folders(database, rule) for rule in (kept, week, week)]
    assert {young.id, active.id} == gateway.storage.jobs()
    database.close()
    candidate = next(c for c in make_outcome()["candidates"] if c["serve"]["kind"] == "adapter")
    with pytest.raises(NotServable, match="run the job again"):
        gateway.publisher.publish(replace(old, status="succeeded"), candidate, "bot")
