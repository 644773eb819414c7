"""Tests of the errors as a part of the interface."""

import inspect
import sys
from datetime import UTC, datetime

import pytest

from merge.peft_format import Problem
from registry import errors
from registry.errors import RegistryError
from registry.jobs import errors as job_errors
from registry.storage import errors as storage_errors
from registry.types import AdmissionReport, Finding
from registry.upkeep import errors as dump_errors

CLASSES = [
    value
    for module in (errors, dump_errors, job_errors)
    for _, value in inspect.getmembers(module, inspect.isclass)
    if issubclass(value, RegistryError)
    and value is not RegistryError
    and value.__module__ == module.__name__
]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_stands_in_the_tree(error: type[RegistryError]) -> None:
    """The tree in the module's docstring lists every class."""
    assert error.__name__ in (sys.modules[error.__module__].__doc__ or "")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            errors.UnknownReference("lega", ["legal", "legal@prod"]),
            "Nothing is registered as 'lega'. Near names: legal, legal@prod.",
        ),
        (
            errors.UnknownReference("x"),
            "Nothing is registered as 'x'. `weft adapters list` and GET /v1/models list what is.",
        ),
        (
            errors.UnknownBase("x", []),
            "No base is registered as 'x' (registered: none). Name one of these, or run"
            " `weft bases add x --model MODEL` (folder or Hub id).",
        ),
        (
            errors.VersionRetired("legal", 2, datetime(2026, 1, 2, tzinfo=UTC)),
            "legal@2 was retired on 2026-01-02; name another version.",
        ),
        (
            storage_errors.DatabaseOutdated(None, "head"),
            "The database is at revision None, and weft needs head: run `weft db upgrade`.",
        ),
        (
            job_errors.FileInUse("file-1", "ftjob-1"),
            "The job ftjob-1 uses the file file-1 and has not ended. Wait for the job, or"
            " cancel it.",
        ),
        (
            job_errors.JobFinished("ftjob-1", "cancelled"),
            "The job ftjob-1 has ended (cancelled) and cannot be cancelled.",
        ),
    ],
)
def test_a_message_is_the_docstring_filled_in(error: RegistryError, message: str) -> None:
    """A message contains the data and says what to do."""
    assert message == str(error)


def test_braces_in_a_strangers_text_stay_text() -> None:
    """A message is formatted once; data is not interpreted as a format."""
    assert "'{0.__class__}{name}'" in str(errors.NameInvalid("{0.__class__}{name}", "a name"))


def test_a_long_list_of_problems_is_cut_in_the_message() -> None:
    """The message shows five problems and counts the others; the report has all of them."""
    problems = [Problem(f"A{n:03}", "adapter_config.json", "one", "another") for n in range(9)]
    findings = tuple(Finding("refuse", problem) for problem in problems)

    error = errors.AdmissionRefused(AdmissionReport(None, findings, facts=None, folder=None))

    assert "A004" in str(error)
    assert "A005" not in str(error)
    assert str(error).endswith("and 4 more problems")
    assert 9 == len(error.report.problems)
