"""The codes and messages of failed jobs."""

import errno

import pytest
import torch

from merge.adaptive.model.memory import MemoryTooSmall
from merge.adaptive.scoring.examples import ExampleInvalid
from merge.adaptive.selection import NoComparison
from merge.adaptive.training import LossNotFinite
from merge.errors import IncompatibleAdapters
from registry.jobs.steps import LOST
from server.errors import ERRORS
from server.jobs.failures import MEANINGS, failure_of


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ExampleInvalid("example 3 is too long"), "invalid_example", "example 3"),
        (MemoryTooSmall(2**31, 2**30), "memory_too_small", "2.00 GiB"),
        (torch.OutOfMemoryError("CUDA out of memory"), "memory_too_small", "CUDA"),
        (LossNotFinite("recycle", 7, "the loss", 5), "loss_not_finite", "at step 7"),
        (NoComparison("selection text"), "nothing_to_compare", "selection text"),
        (IncompatibleAdapters("they do not fit"), "incompatible_adapters", "they do not fit"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full", "no room"),
        (OSError(errno.EIO, "Input/output error"), "storage_broken", "Input/output error"),
        (OSError("no file named model.safetensors"), "base_unavailable", "model.safetensors"),
        (KeyError("secret"), "internal_error", "the server's log has it"),
    ],
)
def test_what_is_raised_has_a_code_and_a_sentence(error: Exception, code: str, says: str) -> None:
    """Errors of learning, merge and disk have codes and messages; unexpected errors reveal
    nothing.
    """
    failure = failure_of(error)
    assert code == failure.code
    assert says in failure.message
    assert "secret" not in failure.message


def test_jobs_have_codes_that_no_request_has() -> None:
    """The two tables of README do not overlap, and the registry's own code is among them."""
    assert not MEANINGS.keys() & {row.code for row in ERRORS.values()}
    assert LOST in MEANINGS
