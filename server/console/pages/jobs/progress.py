"""What a job's events tell while it learns: its step, its losses, what was measured, its log.

The events are read as they come, and shown every two seconds; a stream that breaks is resumed
after the last event. Reading ends with the page.
"""

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import ui

from server.console.api.client import Api
from server.console.api.errors import Refused
from server.console.api.jobs import Job, JobEvent, Measured, Step, events
from server.console.pages.jobs.loss_chart import LOSS_COLUMNS, loss_options, loss_points
from server.console.pages.jobs.losses import Losses
from server.console.parts.chart import Chart
from server.console.parts.refusal import refusal
from server.console.parts.table import Column, Table
from server.console.parts.text import plain, tagged
from server.console.parts.units import moment
from server.jobs.report import METRICS, Metric, interval_text, title_of

_SHOW_SECONDS = 2.0
_RESUME_SECONDS = 2.0
_MOST_MESSAGES = 500


class JobProgress:
    """The part of a page that follows a job; `ended` is called when it has ended meanwhile."""

    def __init__(self, api: Api, job: Job, ended: Callable[[], Awaitable[None]]) -> None:
        self._api, self._job, self._ended = api, job, ended
        self._losses = Losses()
        self._measured: dict[str, Measured] = {}
        self._messages: list[JobEvent] = []
        self._step: Step | None = None
        self._seen: int | None = None
        self._changed = False
        self._draw()
        ui.timer(0, self._read, once=True)
        ui.timer(_SHOW_SECONDS, self._show)

    def _draw(self) -> None:
        self._notice = ui.column().classes("w-full")
        self._said = tagged("p", self._stage()).props("role=status")
        if self._job.active:
            self._bar = ui.linear_progress(0.0, show_value=False)
            self._bar.props["aria-label"] = "Share of this training"
        self._chart = Chart("Losses while training", loss_options(()), LOSS_COLUMNS, ())
        self._candidates = Table("Measured so far, with 95 % intervals", _MEASURED, ())
        self._log = Table("Log", _LOG, ())

    async def _read(self) -> None:
        """Read events until the job has ended."""
        while True:
            try:
                async for event in events(self._api, self._job.id, self._seen):
                    self._take(event)
                break
            except Refused as error:
                self._tell(error)
                if not error.unanswered:
                    return
            await asyncio.sleep(_RESUME_SECONDS)
        self._show()
        if self._job.active:
            await self._ended()

    def _take(self, event: JobEvent) -> None:
        """Take one event into what is shown next."""
        self._seen, self._changed = event.id, True
        if event.measured is not None:
            self._measured[event.measured.candidate] = event.measured
        if event.kind == "message":
            self._messages.append(event)
            del self._messages[:-_MOST_MESSAGES]
        if event.step is not None:
            self._step = event.step
            self._losses.add(event.step)

    def _show(self) -> None:
        """Show what has come since the last time."""
        if not self._changed:
            return
        self._changed = False
        self._notice.clear()
        self._said.set_text(plain(self._stage()))
        if self._job.active and self._step is not None:
            self._bar.set_value(self._step.step / max(self._step.steps, 1))
        curves = self._losses.curves()
        self._chart.show(loss_options(curves), loss_points(curves))
        self._candidates.show([*self._measured.values()], stay=True)
        self._log.show(self._messages[::-1], stay=True)

    def _tell(self, error: Refused) -> None:
        self._notice.clear()
        with self._notice:
            refusal(error)

    def _stage(self) -> str:
        step = self._step
        if step is not None:
            return f"{step.stage}: step {step.step} of {step.steps}"
        if self._job.status == "queued":
            return "The job waits for its turn."
        return "No training has begun." if self._job.active else "The job has no step in its log."


def _figure_column(metric: Metric) -> Column[Measured]:
    def text(measured: Measured) -> str:
        return interval_text(measured.to_figures()[metric], metric)

    return Column(title_of(metric), text)


_MEASURED = [
    Column[Measured]("Candidate", lambda measured: measured.candidate),
    *map(_figure_column, METRICS),
]
_LOG = [
    Column[JobEvent]("Time", lambda event: moment(event.at)),
    Column[JobEvent]("Level", lambda event: event.level),
    Column[JobEvent]("Message", lambda event: event.message),
]
