"""Why a job failed, as its `error` holds it: a code, a message, and the parameter at fault.

An error that a request can meet too has the same code in both (`server.errors`). Not covered: jobs
whose workers fell silent (`registry.jobs.queue`).
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from server.jobs.datasets import BadLine, DatasetInvalid

_log = logging.getLogger("weft.jobs")

# The table in REFERENCE.md.
MEANINGS: Mapping[str, str] = {
    "invalid_training_file": "the file has bad lines, which the message names, or too few "
    "examples or questions",
    "invalid_validation_file": "the file has bad lines, no examples, or training questions",
    "invalid_example": "an example does not fit the base's chat template or its longest context",
    "base_unavailable": "the base's weights cannot be loaded; the message has the reason",
    "memory_too_small": "the base and the pool do not fit into the device's memory",
    "loss_not_finite": "the training loss became NaN or infinite; the message names the step",
    "nothing_to_compare": "the pool's members cannot be ranked by the `selection` that was chosen",
    "job_timeout": "the job ran longer than WEFT_JOB_TIMEOUT_SECONDS",
    "worker_died": "the job's process was killed three times, perhaps because memory ran out",
    "worker_lost": "three workers in turn stopped sending heartbeats while they ran the job",
}
# What the learning raises, by class name: its modules are imported in the children only.
_LEARNING: Mapping[str, str] = {
    "ExampleInvalid": "invalid_example",
    "MemoryTooSmall": "memory_too_small",
    "OutOfMemoryError": "memory_too_small",  # torch's, where the estimate was too low
    "LossNotFinite": "loss_not_finite",
    "NoComparison": "nothing_to_compare",
}


class Failure(NamedTuple):
    """Why a job ended without success."""

    code: str
    message: str
    param: str | None = None
    bad: tuple[BadLine, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the job's `error`."""
        return {"code": self.code, "message": self.message, "param": self.param}


class JobFailed(Exception):
    """A job failed; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


def timed_out(seconds: float) -> Failure:
    """Return the failure of a job that ran for `seconds`, its limit."""
    return Failure(
        "job_timeout",
        f"the job ran longer than {seconds:g} s, the limit (WEFT_JOB_TIMEOUT_SECONDS): give it "
        "fewer examples, a smaller pool or fewer steps, or ask for a higher limit",
    )


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an exception means. An unexpected exception is logged."""
    if isinstance(error, JobFailed):
        return error.failure
    if isinstance(error, DatasetInvalid):
        return Failure(f"invalid_{error.param}", str(error), error.param, error.bad)
    if code := _LEARNING.get(type(error).__name__):
        return Failure(code, str(error))
    from server.artifacts.store import StoreFull, storage_errors
    from server.errors import info_and_message  # here: it imports the whole server

    if isinstance(error, OSError) and error.errno is None:  # transformers raises bare ones
        return Failure("base_unavailable", str(error))
    if isinstance(error, OSError):
        try:
            with storage_errors("what the job writes"):
                raise error
        except StoreFull as full:
            error = full
        except Exception as broken:
            error = broken
    info, message = info_and_message(error)
    return Failure(info.code, message)
