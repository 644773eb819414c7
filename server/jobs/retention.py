"""Removing what old jobs wrote: candidates that nobody published, and what was learned."""

from registry.storage.database import Database
from registry.upkeep.retention import ended_jobs
from server.settings import Settings
from server.stores import job_storage


def remove_job_folders(database: Database, settings: Settings) -> int:
    """Remove the folders of jobs that ended longer ago than the settings say. Blocking.

    Returns their number. What a job published is in the registry, and its report in the database.

    Raises:
        registry.errors.DatabaseUnavailable, OSError: the database or the folders cannot be read.
    """
    if settings.job_files_days is None:
        return 0
    storage = job_storage(settings)
    ended = ended_jobs(database, settings.job_files_days, storage.jobs())
    for job in ended:
        storage.remove_job(job)
    return len(ended)
