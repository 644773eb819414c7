"""Why a job failed, as its `error` tells it: a code, a sentence, and the parameter to blame.

What any request can meet has the code that it has there (`server.errors`). Not covered: jobs whose
workers fell silent (`registry.jobs.queue`).
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from server.jobs.datasets import BadLine, DatasetInvalid

_log = logging.getLogger("weft.jobs")

# The table in REFERENCE.md.
MEANINGS: Mapping[str, str] = {
    "invalid_training_file": "bad lines, each with its number, or too few examples",
    "invalid_validation_file": "bad lines, or examples that are in the training file too",
    "invalid_example": "an example that the base's chat template or length does not allow",
    "base_unavailable": "the base's weights cannot be loaded, with the reason",
    "memory_too_small": "the base and the pool do not fit into the device's memory",
    "loss_not_finite": "training met NaN or infinity, with the step; the state before is kept",
    "nothing_to_compare": "members that cannot be ranked in the way that was asked for",
    "worker_died": "its process was killed three times, perhaps for want of memory",
    "worker_lost": "whoever ran it fell silent three times",
}
# What the learning raises, by name: its modules are loaded in the workers alone.
_LEARNING: Mapping[str, str] = {
    "ExampleInvalid": "invalid_example",
    "MemoryTooSmall": "memory_too_small",
    "OutOfMemoryError": "memory_too_small",  # torch's, where the estimate was too low
    "LossNotFinite": "loss_not_finite",
    "NoComparison": "nothing_to_compare",
}


class Failure(NamedTuple):
    """What ended a job."""

    code: str
    message: str
    param: str | None = None
    bad: tuple[BadLine, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the job's `error`."""
        return {"code": self.code, "message": self.message, "param": self.param}


class JobFailed(Exception):
    """A job cannot go on; the failure says why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


def failure_of(error: BaseException) -> Failure:
    """Return what a job's `error` says of an exception; faults of ours are logged."""
    if isinstance(error, JobFailed):
        return error.failure
    if isinstance(error, DatasetInvalid):
        return Failure(f"invalid_{error.param}", str(error), error.param, error.bad)
    if code := _LEARNING.get(type(error).__name__):
        return Failure(code, str(error))
    from server.artifacts.store import StoreFull, storage_errors
    from server.errors import row_and_message  # it knows all of the server

    if isinstance(error, OSError) and error.errno is None:  # transformers has no errors of its own
        return Failure("base_unavailable", str(error))
    if isinstance(error, OSError):
        try:
            with storage_errors("what the job writes"):
                raise error
        except StoreFull as full:
            error = full
        except Exception as broken:
            error = broken
    row, message = row_and_message(error)
    return Failure(row.code, message)
