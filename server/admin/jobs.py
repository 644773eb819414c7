"""`/registry/jobs`: create, watch and cancel jobs; read reports, publish candidates."""

import functools
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Query, Response
from fastapi import Path as PathParameter
from starlette.responses import StreamingResponse

from registry.callers import Caller
from registry.jobs.errors import JobNotSucceeded, UnknownFile
from registry.jobs.types import Job, JobEvent
from registry.types import JobStatus
from server.admin.fields import Cursor, Limit
from server.admin.job_schemas import (
    CandidateBody,
    CheckBody,
    CheckItem,
    JobBody,
    JobEventItem,
    JobItem,
    ProblemItem,
)
from server.admin.schemas import PageOf
from server.artifacts.store import storage_errors
from server.auth import Publisher, Reader
from server.compose.resolve import Bare
from server.errors import RequestInvalid
from server.gateway import Gateway
from server.jobs.chart import chart
from server.jobs.checking import check_examples
from server.jobs.create import create_job
from server.jobs.pools import unusable
from server.jobs.publish import NotServable
from server.jobs.report import CandidateJson, ReportJson
from server.jobs.storage import keep_file
from server.routing import admin_routes
from server.sse import EVENT_STREAM, KEEP_ALIVE, frame
from server.telemetry.metrics import Timings

JobId = Annotated[
    str, PathParameter(pattern="^ftjob-[0-9a-f]{24}$", examples=["ftjob-0123456789abcdef01234567"])
]
_AfterEvent = Annotated[int | None, Query(ge=0, lt=2**63, description="id of the last one seen")]
_LastEvent = Annotated[str | None, Header(pattern="^[0-9]{1,18}$")]
# A check holds Python's lock again and again: a larger file is for a job's own process.
_MOST_CHECKED = 32 * 2**20
_MOST_PROBLEMS = 1000
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}
}
_SVG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}}
}


def jobs_router(gateway: Gateway) -> APIRouter:
    """Return the routes."""
    router = admin_routes("/jobs", "jobs")
    jobs = gateway.registry.jobs
    _add_results(router, gateway)

    @router.post("", status_code=201)
    async def create(body: JobBody, caller: Publisher) -> JobItem:
        """Create a job that learns a merge from examples, with its controls."""
        job = await gateway.pools.jobs.run(_create, gateway, body, caller)
        gateway.jobs.wake()
        return JobItem.of(job)

    @router.post("/check")
    def check(body: CheckBody, caller: Publisher) -> CheckItem:
        """Check files of examples as a job does, without starting one."""
        return _check(gateway, body, caller)

    @router.get("")
    def list_jobs(
        caller: Reader, status: JobStatus | None = None, cursor: Cursor = None, limit: Limit = 20
    ) -> PageOf[JobItem]:
        """List jobs, newest first."""
        page = jobs.page(cursor=cursor, limit=limit, status=status, caller=caller)
        return PageOf(items=[JobItem.of(j) for j in page.items], next_cursor=page.next_cursor)

    @router.get("/{job}")
    def get_job(job: JobId, caller: Reader) -> JobItem:
        """Return a job."""
        return JobItem.of(jobs.get(job, caller=caller))

    @router.post("/{job}/cancel")
    def cancel(job: JobId, caller: Publisher) -> JobItem:
        """Cancel a job: immediately if it is queued, within two seconds if it runs."""
        return JobItem.of(jobs.cancel(job, actor=caller.name, caller=caller))

    @router.get("/{job}/events", response_class=StreamingResponse, responses=_STREAM)
    async def stream_events(
        job: JobId, caller: Reader, after: _AfterEvent = None, last_event_id: _LastEvent = None
    ) -> StreamingResponse:
        """Stream the events of a job as server-sent events, until it ends."""
        seen = int(last_event_id) if last_event_id is not None else after
        current = await gateway.pools.jobs.run(jobs.get, job, caller=caller)
        stream = _events(gateway, current.id, seen, caller)
        return StreamingResponse(stream, media_type=EVENT_STREAM)

    return router


def _add_results(router: APIRouter, gateway: Gateway) -> None:
    jobs = gateway.registry.jobs

    def report_of(job: str, caller: Caller) -> ReportJson:
        report = jobs.report(job, caller=caller)
        if report is None:
            raise JobNotSucceeded(job, jobs.get(job, caller=caller).status)
        return cast("ReportJson", dict(report))

    @router.get("/{job}/report")
    def get_report(job: JobId, caller: Reader) -> dict[str, Any]:
        """Return the report of a job: every candidate with its scores, and which one to serve."""
        return dict(report_of(job, caller))

    @router.get("/{job}/chart", response_class=Response, responses=_SVG)
    def get_chart(job: JobId, caller: Reader) -> Response:
        """Return the chart of a report as SVG."""
        return Response(chart(report_of(job, caller)), media_type="image/svg+xml")

    @router.post("/{job}/publish")
    async def publish_candidate(job: JobId, body: CandidateBody, caller: Publisher) -> JobItem:
        """Publish another candidate of a job, under the job's name or another."""
        current = await gateway.pools.jobs.run(jobs.get, job, caller=caller)
        report = await gateway.pools.jobs.run(report_of, job, caller)
        name = body.name or current.name
        caller.need_name(name)
        candidate = _candidate(report, body.candidate)
        return JobItem.of(await _publish(gateway, current, candidate, name, caller))


def _check(gateway: Gateway, body: CheckBody, caller: Caller) -> CheckItem:
    """Return what a job would find in the files.

    Raises:
        registry.jobs.errors.UnknownFile: there is no such file for the caller.
        RequestInvalid: a file is too large to be read here.
        StoreBroken, registry.errors.StoreUnavailable: a file cannot be read.
    """

    def path_of(file: str) -> Path:
        metadata = gateway.registry.files.get(file, caller=caller)
        if metadata.bytes > _MOST_CHECKED:
            raise RequestInvalid(
                f"{file} has {metadata.bytes} bytes, and at most {_MOST_CHECKED} are checked "
                "without a job. Start the job: it checks the file first."
            )
        path = gateway.storage.file(metadata.id)
        if not path.is_file():  # a database that was restored without its files
            raise UnknownFile(file)
        return path

    with storage_errors("the examples"):
        validation = None if body.validation_file is None else path_of(body.validation_file)
        checked = check_examples(path_of(body.training_file), validation)
    return CheckItem(
        usable=not checked.problems, examples=checked.examples, questions=checked.questions,
        validation_examples=checked.validation_examples,
        problems=[ProblemItem.model_validate(one) for one in checked.problems[:_MOST_PROBLEMS]],
        more=max(0, len(checked.problems) - _MOST_PROBLEMS),
    )  # fmt: skip


def _create(gateway: Gateway, body: JobBody, caller: Caller) -> Job:
    """Create a job; inline examples become files first.

    Raises:
        as `create_job`; StoreFull, StoreBroken.
    """
    made: list[str] = []

    def file_of(examples: Sequence[dict[str, Any]] | None, given: str | None) -> str | None:
        if examples is None:
            return given
        with storage_errors("the examples"):
            made.append(_keep(gateway, examples, caller))
        return made[-1]

    training = file_of(body.examples, body.training_file)
    assert training is not None, "the body was checked"
    try:
        validation = file_of(body.validation_examples, body.validation_file)
        return create_job(gateway.resolver, body.to_request(training, validation), caller)
    except Exception:
        for file in made:  # what came for a job that is none
            gateway.registry.files.remove(file, actor=caller.name, caller=caller)
            gateway.storage.remove_file(file)
        raise


def _keep(gateway: Gateway, examples: Sequence[dict[str, Any]], caller: Caller) -> str:
    incoming = gateway.storage.incoming()
    try:
        for each in examples:
            incoming.write(json.dumps(each).encode() + b"\n")
        files = gateway.registry.files
        return keep_file(files, gateway.storage, incoming, "examples.jsonl", caller).id
    finally:
        incoming.discard()


def _candidate(report: ReportJson, name: str) -> CandidateJson:
    by_name = {candidate["name"]: candidate for candidate in report["candidates"]}
    if name not in by_name:
        raise RequestInvalid(
            f"No candidate is named {name!r}. The candidates are {', '.join(by_name)}."
        )
    return by_name[name]


async def _publish(
    gateway: Gateway, job: Job, candidate: CandidateJson, name: str, caller: Caller
) -> Job:
    """Publish a candidate.

    Raises:
        JobNotSucceeded, NotServable: as they say.
        registry.errors.RegistryError, merge.errors.MergeError, EngineError, StoreFull: not now.
    """
    registry = gateway.registry
    if job.status != "succeeded":
        raise JobNotSucceeded(job.id, job.status)
    known = {each["reference"] for each in job.request["members"]}
    members = known.intersection(candidate["members"])
    gone = await gateway.pools.jobs.run(unusable, registry, sorted(members), caller)
    if gone:
        raise NotServable(" ".join(gone.values()))
    made = await gateway.pools.jobs.run(gateway.publisher.publish, job, candidate, name)
    fleet = gateway.bases[made.target.base].fleet
    if fleet.available() and not isinstance(made.target, Bare):
        async with gateway.provider.provide(made.target, Timings()):
            pass  # the next request finds it ready
    publish = functools.partial(
        registry.jobs.publish, job.id, made.model, actor=caller.name, caller=caller
    )
    return await gateway.pools.jobs.run(publish)


async def _events(
    gateway: Gateway, job: str, after: int | None, caller: Caller
) -> AsyncIterator[bytes]:
    """Yield the events of a job as server-sent events, with a comment while nothing happens."""
    jobs = gateway.registry.jobs
    async for events in gateway.feed.follow(job, after=after, caller=caller):
        yield b"".join(map(_event, events)) or KEEP_ALIVE
        if gateway.stopping.begun:
            return  # without an end: the client goes on from its last event, at another server
    ended = JobItem.of(await gateway.pools.jobs.run(jobs.get, job, caller=caller))
    yield frame(ended.model_dump_json(), kind="end")


def _event(event: JobEvent) -> bytes:
    item = JobEventItem.model_validate(event)
    return frame(item.model_dump_json(), kind=item.kind, number=item.id)
