"""Rows of files and jobs for tests; no bytes are on a disk."""

from typing import Any

from registry.callers import Caller
from registry.jobs.types import File, Job
from registry.service import Registry
from tests.registry.conftest import BASE

TEAM, OTHER = Caller("ada", "publish", "team"), Caller("bob", "publish", "other")


def put_file(registry: Registry, number: int, **changes: Any) -> File:
    """Insert the row of a file, `file-<number>`."""
    fields: dict[str, Any] = {
        "id": f"file-{number:024x}", "filename": "train.jsonl", "purpose": "fine-tune",
        "bytes": 10, "digest": "0" * 64, "actor": "ada",
    }  # fmt: skip
    return registry.files.add(**(fields | changes))


def queue(registry: Registry, number: int, **changes: Any) -> Job:
    """Queue a job, `ftjob-<number>`, with a new file unless the caller names one."""
    if "training_file" not in changes:
        caller = {name: value for name, value in changes.items() if name == "caller"}
        changes["training_file"] = put_file(registry, 10_000 + number, **caller).id
    fields: dict[str, Any] = {
        "id": job_id(number), "base": BASE, "request": {}, "name": "law", "seed": 0, "actor": "ada",
    }  # fmt: skip
    return registry.jobs.create(**(fields | changes))


def job_id(number: int) -> str:
    """Return the id of the job that `queue` creates."""
    return f"ftjob-{number:024x}"


def messages(registry: Registry, number: int) -> list[str]:
    """Return the messages of a job's log, oldest first."""
    page = registry.jobs.events(job_id(number), limit=1000, oldest_first=True)
    return [event.message for event in page.items]
