"""The page of all jobs: the newest first, of one status or of all."""

from urllib.parse import urlencode

from nicegui import ui

from server.console.api.jobs import STATUSES, Job, jobs
from server.console.page import Page, PageContext
from server.console.parts.empty import empty
from server.console.parts.table import Column, cursor_table
from server.console.parts.units import moment

_ALL = "all"


def build(page: PageContext) -> None:
    """Show the jobs that the key may see, and the way to start one."""
    asked = page.parameters.get("status", _ALL)
    status = asked if asked in STATUSES else None
    publishes = page.who.has("publish")
    with ui.row().classes("items-center"):
        ui.select(
            [_ALL, *STATUSES], label="Status", value=status or _ALL,
            on_change=lambda event: ui.navigate.to(_address(event.value)),
        ).classes("w-40")  # fmt: skip
        if publishes:
            ui.link("Start a job", "/jobs/new")

    def nothing() -> None:
        if status is not None:
            empty(f"No job has the status {status}.", do="Show all jobs", href="/jobs")
        elif publishes:
            empty(
                "No job has learned from examples yet.", do="Start one with a file of examples",
                href="/jobs/new", command="weft adapt examples.jsonl --server URL",
            )  # fmt: skip
        else:
            empty("There is no job yet. A key with the role publish can start one.")

    cursor_table("Jobs", _COLUMNS, lambda cursor: jobs(page.api, cursor, status), nothing)


def _address(status: str) -> str:
    return "/jobs" if status == _ALL else f"/jobs?{urlencode({'status': status})}"


_COLUMNS = [
    Column[Job]("Job", lambda job: job.id, href=lambda job: f"/jobs/{job.id}"),
    Column[Job]("Status", lambda job: job.status),
    Column[Job]("Method", lambda job: job.method),
    Column[Job]("Name", lambda job: job.name),
    Column[Job]("Model", lambda job: job.model),
    Column[Job]("Created", lambda job: moment(job.created_at)),
    Column[Job]("By", lambda job: job.created_by),
]
JOBS = Page("/jobs", "Jobs", build, menu="Jobs")
