"""Errors of files and jobs. As in `registry.errors`, docstrings are messages.

RegistryError
├── UnknownFile, UnknownJob                the caller sees no row with this id
├── FileInUse                              an active job uses the file
└── JobFinished, JobNotSucceeded           the job's status forbids the operation

`param` names the argument that caused the error, or is None.
"""

from registry.errors import RegistryError
from registry.types import JobStatus

_SHOWN = 100


class UnknownFile(RegistryError):
    """No file has the id {id!r}. Upload it, or use an id from the list of files."""

    def __init__(self, file_id: str, param: str | None = None) -> None:
        self.id = file_id[:_SHOWN]
        self.param = param
        super().__init__()


class UnknownJob(RegistryError):
    """No job has the id {id!r}. Use an id from the list of jobs."""

    param = None

    def __init__(self, job_id: str) -> None:
        self.id = job_id[:_SHOWN]
        super().__init__()


class FileInUse(RegistryError):
    """The job {job} uses the file {id} and has not ended. Wait for the job, or cancel it."""

    param = None

    def __init__(self, file_id: str, job: str) -> None:
        self.id = file_id
        self.job = job
        super().__init__()


class JobFinished(RegistryError):
    """The job {id} has ended ({status}) and cannot be cancelled."""

    param = None

    def __init__(self, job_id: str, status: JobStatus) -> None:
        self.id = job_id
        self.status = status
        super().__init__()


class JobNotSucceeded(RegistryError):
    """The job {id} is {status}. Only the result of a job that has succeeded can be published."""

    param = None

    def __init__(self, job_id: str, status: JobStatus) -> None:
        self.id = job_id
        self.status = status
        super().__init__()
