"""Removing what old jobs wrote, and the bytes of uploads that clients have removed."""

from registry.jobs.files import Files
from registry.storage.database import Database
from registry.upkeep.retention import ended_jobs
from server.settings import Settings
from server.stores import job_storage


def remove_job_folders(database: Database, settings: Settings) -> int:
    """Remove the folders of jobs that ended longer ago than the settings say. Blocking.

    Returns their number. What a job published is in the registry, and its report in the database.
    Bytes of removed uploads go too: copies of other machines', and what a store that was gone kept.

    Raises:
        registry.errors.DatabaseUnavailable, OSError: the database or the folders cannot be read.
        registry.errors.StoreUnavailable: the object store cannot be used.
    """
    storage = job_storage(settings)
    for file in Files(database).removed(storage.files()):
        storage.remove_file(file)
    if settings.job_files_days is None:
        return 0
    ended = ended_jobs(database, settings.job_files_days, storage.jobs())
    for job in ended:
        storage.remove_job(job)
    return len(ended)
