"""The page of one job: its state, what it learns while it runs, and its report."""

import json
from typing import Any

from nicegui import ui

from server.console.api import jobs
from server.console.api.jobs import Job
from server.console.page import Page, PageContext
from server.console.pages.jobs.progress import JobProgress
from server.console.pages.jobs.result import draw_result
from server.console.parts.confirm import confirmed
from server.console.parts.facts import facts
from server.console.parts.live import live
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.table import Column, Table
from server.console.parts.units import moment


def build(page: PageContext) -> None:
    """Show a job."""
    job_id = page.parameters["job"]

    async def draw_learning() -> None:
        job = await jobs.job(page.api, job_id)
        if job.status == "succeeded":
            draw_result(page, job, await jobs.report(page.api, job_id), learning.load)
        else:
            JobProgress(page.api, job, learning.load)

    live(
        lambda: jobs.job(page.api, job_id), lambda job: _State(page, job).show,
        until=lambda job: not job.active,
    )  # fmt: skip
    learning = Section(draw_learning)


class _State:
    """A job's state, which changes while it runs, and the button that cancels it."""

    def __init__(self, page: PageContext, job: Job) -> None:
        self._page = page
        self._facts = ui.column().classes("w-full")
        with ui.expansion("Options").classes("w-full"):
            Table("Options", _OPTIONS, [*job.options.items()])
        self._cancel = ui.button("Cancel the job", on_click=lambda: self._ask_to_cancel(job.id))
        self._cancel.props("outline no-caps")
        self.show(job)

    def show(self, job: Job) -> None:
        """Show the state."""
        self._facts.clear()
        with self._facts:
            facts(_facts_of(job))
        self._cancel.set_visibility(job.active and self._page.who.has("publish"))

    async def _ask_to_cancel(self, job_id: str) -> None:
        question = f"Cancel {job_id}? What it has learned is lost."
        if not await confirmed(question, do="End the job"):
            return

        async def cancel() -> None:
            await jobs.cancel(self._page.api, job_id)

        if await attempt(cancel):
            ui.notify("The job is being cancelled.")


def _facts_of(job: Job) -> dict[str, str]:
    pool = job.pool if isinstance(job.pool, str) else ", ".join(job.pool)
    return {
        "Job": job.id, "Status": job.status,
        "Why": "" if job.error is None else f"{job.error.message} ({job.error.code})",
        "Model": job.model or "", "Name": job.name, "Base": job.base,
        "Method": job.method, "Pool": f"{pool or 'every adapter'}: {job.members} adapters",
        "Serves": job.serve, "Examples": job.training_file,
        "Validation examples": job.validation_file or "", "Seed": str(job.seed),
        "Device": job.device or "", "Starts": str(job.attempts) if job.attempts > 1 else "",
        "Created": f"{moment(job.created_at)} by {job.created_by}",
        "Started": moment(job.started_at), "Finished": moment(job.finished_at),
    }  # fmt: skip


_OPTIONS = [
    Column[tuple[str, Any]]("Option", lambda option: option[0]),
    Column[tuple[str, Any]]("Value", lambda option: json.dumps(option[1], ensure_ascii=False)),
]
JOB = Page("/jobs/{job}", "Job", build)
