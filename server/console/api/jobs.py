"""Adaptive jobs: lists, one job, its events and its report; starting, cancelling, publishing."""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Literal, cast

from pydantic import BaseModel, RootModel

from server.console.api.client import Api, PageOf
from server.console.api.errors import Refused
from server.console.api.events import events_of
from server.jobs.report import FiguresJson, ReportJson

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATUSES: tuple[JobStatus, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
_END = "end"
_PUBLISH_SECONDS = 300.0  # the candidate is merged and loaded meanwhile


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class Job(BaseModel):
    """A job; once it has succeeded, `model` can be used in requests."""

    id: str
    status: JobStatus
    base: str
    name: str
    model: str | None
    error: JobError | None
    options: dict[str, Any]
    pool: str | list[str]
    members: int
    serve: str
    training_file: str
    validation_file: str | None
    seed: int
    device: str | None
    attempts: int
    created_at: datetime
    created_by: str
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def active(self) -> bool:
        """Whether the job is queued or running."""
        return self.status in ("queued", "running")

    @property
    def method(self) -> str:
        """The adaptive method."""
        return str(self.options.get("method", ""))


class Step(BaseModel):
    """A step of one training; losses are nats per answer token."""

    stage: str
    step: int
    steps: int
    train_loss: float | None
    valid_loss: float | None


class Measured(BaseModel):
    """A candidate that was measured, with its figures."""

    candidate: str
    figures: dict[str, Any]

    def to_figures(self) -> FiguresJson:
        """Return the figures in the form of a report's."""
        return cast("FiguresJson", self.figures)


class JobEvent(BaseModel):
    """An event of a job."""

    id: int
    at: datetime
    level: Literal["info", "warn", "error"]
    kind: str
    message: str
    data: dict[str, Any]

    @property
    def step(self) -> Step | None:
        """The step of a training that the event tells, if it does."""
        return Step.model_validate(self.data) if self.kind == "metrics" else None

    @property
    def measured(self) -> Measured | None:
        """The candidate that the event tells, if it does."""
        return Measured.model_validate(self.data) if self.kind == "candidate" else None


class _Report(RootModel[dict[str, Any]]):
    pass


async def jobs(api: Api, cursor: str | None, status: str | None = None) -> PageOf[Job]:
    """Return a page of jobs, newest first."""
    return await api.page(Job, "jobs", cursor=cursor, query={"status": status})


async def job(api: Api, job_id: str) -> Job:
    """Return a job."""
    return await api.get(Job, "jobs", job_id)


async def report(api: Api, job_id: str) -> ReportJson:
    """Return the report of a job that has succeeded; `server.jobs.report` names its parts."""
    answer = await api.get(_Report, "jobs", job_id, "report")
    return cast("ReportJson", answer.root)


async def events(api: Api, job_id: str, after: int | None = None) -> AsyncIterator[JobEvent]:
    """Yield the events of a job after one, until it has ended.

    Raises:
        Refused: the API's words; without an answer, also when the stream breaks off.
    """
    query = {} if after is None else {"after": after}
    async with api.stream("GET", f"/registry/jobs/{job_id}/events", params=query) as answer:
        async for event in events_of(answer):
            if event.kind == _END:
                return
            yield JobEvent.model_validate_json(event.data)
    raise Refused("The server broke off the events of the job; they are asked for again.")


async def start(api: Api, body: Mapping[str, Any]) -> Job:
    """Create a job from the body of `POST /registry/jobs`."""
    return await api.send(Job, "POST", "jobs", json=body)


async def cancel(api: Api, job_id: str) -> Job:
    """Cancel a job."""
    return await api.send(Job, "POST", "jobs", job_id, "cancel")


async def publish(api: Api, job_id: str, candidate: str, name: str | None) -> Job:
    """Publish another candidate of a job, under the job's name or another."""
    body = {"candidate": candidate, "name": name}
    return await api.send(
        Job, "POST", "jobs", job_id, "publish", json=body, seconds=_PUBLISH_SECONDS
    )
