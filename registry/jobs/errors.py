"""What files and jobs raise; as in `registry.errors`, docstrings are messages.

RegistryError
├── UnknownFile, UnknownJob                well formed, but there is none that the caller may know
├── FileInUse                              a job still needs it
└── JobFinished, JobNotSucceeded           not in this job's status

`param` is the argument that is to blame, when it is one.
"""

from registry.errors import RegistryError
from registry.types import JobStatus

_SHOWN = 100


class UnknownFile(RegistryError):
    """There is no file {id!r}: send it (again), or name one that is listed."""

    def __init__(self, file_id: str, param: str | None = None) -> None:
        self.id = file_id[:_SHOWN]
        self.param = param
        super().__init__()


class UnknownJob(RegistryError):
    """There is no job {id!r}: name one that is listed."""

    param = None

    def __init__(self, job_id: str) -> None:
        self.id = job_id[:_SHOWN]
        super().__init__()


class FileInUse(RegistryError):
    """The file {id} is needed by the job {job}, which has not ended: wait for it, or cancel it."""

    param = None

    def __init__(self, file_id: str, job: str) -> None:
        self.id = file_id
        self.job = job
        super().__init__()


class JobFinished(RegistryError):
    """The job {id} has {status} already: there is nothing left to cancel."""

    param = None

    def __init__(self, job_id: str, status: JobStatus) -> None:
        self.id = job_id
        self.status = "been cancelled" if status == "cancelled" else status
        super().__init__()


class JobNotSucceeded(RegistryError):
    """The job {id} is {status}: only what a job that succeeded has found can be published."""

    param = None

    def __init__(self, job_id: str, status: JobStatus) -> None:
        self.id = job_id
        self.status = status
        super().__init__()
