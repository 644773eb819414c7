"""The report of a job that has succeeded: the verdict, the candidates, their losses; publishing."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from nicegui import ui

from server.console.api import jobs
from server.console.api.jobs import Job
from server.console.page import PageContext
from server.console.pages.jobs.candidates import candidate_columns, interval_options, publishable
from server.console.pages.jobs.loss_chart import LOSS_COLUMNS, loss_options, loss_points
from server.console.pages.jobs.losses import curves_of
from server.console.parts.chart import Chart, chart
from server.console.parts.refusal import attempt
from server.console.parts.text import tagged
from server.jobs.report import ReportJson, how_measured, rows


def draw_result(
    page: PageContext, job: Job, report: ReportJson, reload: Callable[[], Awaitable[None]]
) -> None:
    """Show a report; `reload` shows it anew once another candidate was published."""
    tagged("h2", "Verdict").classes("text-lg font-bold")
    for sentence in (report["sentence"], how_measured(report), report["served"]):
        if sentence:
            tagged("p", sentence, 2000)
    if report["published"] is not None:
        published = report["published"]
        tagged("p", f"The job published {published['candidate']} as {published['model']}.")
    if job.model is not None:
        ui.link("Compare its model with others", f"/compare?{urlencode({'model': job.model})}")
    listed = list(rows(report))
    Chart(
        "Candidates beside their controls, with 95 % intervals", interval_options(report),
        candidate_columns(report), listed, height=f"{6 + 2 * len(listed)}rem", unfolded=True,
    )  # fmt: skip
    if page.who.has("publish"):
        _draw_publishing(page, job, publishable(report), reload)
    if curves := curves_of(report["candidates"]):
        chart("Losses while training", loss_options(curves), LOSS_COLUMNS, loss_points(curves))


def _draw_publishing(
    page: PageContext, job: Job, names: list[str], reload: Callable[[], Awaitable[None]]
) -> None:
    """Offer to publish another candidate, under the job's name or another."""
    if not names:
        return

    async def publish() -> None:
        done = await jobs.publish(page.api, job.id, candidate.value, name.value.strip() or None)
        ui.notify(f"Published as {done.model}")

    async def click() -> None:
        button.set_enabled(False)
        if await attempt(publish):
            await reload()
        else:
            button.set_enabled(True)

    with ui.row().classes("items-end"):
        candidate = ui.select(names, label="Another candidate", value=names[0]).classes("w-56")
        name = ui.input("Name", placeholder=job.name).classes("w-56")
        button = ui.button("Publish", on_click=click).props("no-caps")
