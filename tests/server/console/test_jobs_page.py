"""The pages of jobs, on a gateway whose jobs are written by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from nicegui import ui
from nicegui.testing import User

from registry.jobs.types import Job, Note
from registry.service import Registry
from server.app import create_app
from server.console.pages.jobs import progress
from server.gateway import Gateway
from server.sse import frame
from tests.server.console.conftest import SignIn, console_on
from tests.server.console.test_candidates import report
from tests.server.jobs.conftest import figure, queue

WORKER = "the test"


def step(number: int, train: float, valid: float | None = None) -> Note:
    """Return an entry of a job's log about a step."""
    data = {"stage": "recycle", "step": number, "steps": 4, "train_loss": train,
            "valid_loss": valid}  # fmt: skip
    return Note(f"recycle: step {number} of 4", kind="metrics", data=data)


def run(registry: Registry, job: Job, *notes: Note) -> None:
    """Let a job run, with these entries in its log."""
    claimed = registry.jobs.claim(WORKER, "cpu", among=[job.id])
    assert claimed is not None
    registry.jobs.note(job.id, [*notes])


def succeed(registry: Registry, job: Job, document: Any) -> None:
    """Let a job end with a report."""
    run(registry, job, step(1, 2.0))
    model = document["published"] and document["published"]["model"]
    registry.jobs.finish(job.id, WORKER, "succeeded", report=document, model=model)


async def test_no_job_yet(user: User) -> None:
    """Without a job the page offers to start one."""
    await user.open("/jobs")
    await user.should_see("No job has learned from examples yet.", retries=20)
    await user.should_see("Start one with a file of examples")


async def test_jobs_are_listed(user: User, gateway: Gateway, registry: Registry) -> None:
    """Jobs are listed, all of them or those of one status."""
    job = queue(gateway, name="team/bot")
    await user.open("/jobs")
    await user.should_see(job.id, retries=20)
    await user.should_see("team/bot")
    await user.open("/jobs?status=failed")
    await user.should_see("No job has the status failed.", retries=20)


async def test_a_failed_job_says_why(user: User, gateway: Gateway, registry: Registry) -> None:
    """A job that failed shows the reason, what it had learned, and its log."""
    job = queue(gateway)
    run(registry, job, Note("The job's process has started."), step(1, 2.0), step(2, 1.5, 1.6))
    error = {"code": "loss_not_finite", "message": "the loss at step 3 is NaN", "param": None}
    registry.jobs.finish(job.id, WORKER, "failed", error=error)
    await user.open(f"/jobs/{job.id}")
    await user.should_see("the loss at step 3 is NaN (loss_not_finite)", retries=30)
    await user.should_see("The job's process has started.", retries=30)
    await user.should_see("recycle: step 2 of 4")
    (chart,) = user.find(ui.echart).elements
    valid, train = chart.options["series"]
    assert [[50.0, 1.6]] == valid["data"]
    assert [[25.0, 2.0], [50.0, 1.5]] == train["data"]


async def test_a_report_is_shown(user: User, gateway: Gateway, registry: Registry) -> None:
    """A job that has succeeded shows its verdict, and its candidates beside their controls."""
    job = queue(gateway)
    succeed(registry, job, report())
    await user.open(f"/jobs/{job.id}")
    await user.should_see("serve recycle", retries=30)
    await user.should_see("The job published recycle as team/bot@1.")
    await user.should_see("60.0 [50.0, 70.0]")
    await user.should_see("the base (a control)")
    assert 2 == len(user.find(ui.echart).elements)


async def test_another_candidate_is_published(
    user: User, gateway: Gateway, registry: Registry
) -> None:
    """Another candidate is published under the job's name, and the report says so."""
    job = queue(gateway, name="bot")
    succeed(registry, job, report(published=None, ranked=["base"]))
    await user.open(f"/jobs/{job.id}")
    await user.should_see("Another candidate", retries=30)
    user.find("Publish").click()
    await user.should_see("Published as", retries=30)
    assert registry.jobs.get(job.id).model is not None


async def test_a_job_is_cancelled(user: User, gateway: Gateway, registry: Registry) -> None:
    """A job is cancelled after a question, and the page shows that."""
    job = queue(gateway)
    await user.open(f"/jobs/{job.id}")
    await user.should_see("Cancel the job", retries=30)
    user.find("Cancel the job").click()
    await user.should_see("What it has learned is lost.")
    user.find("End the job").click()
    await user.should_see("cancelled", retries=30)
    assert "cancelled" == registry.jobs.get(job.id).status


async def test_a_reader_sees_no_buttons(
    sign_in: SignIn, gateway: Gateway, registry: Registry
) -> None:
    """A key with the role read sees jobs and reports, and nothing to start, cancel or publish."""
    _, key = registry.access.keys.create("reader", role="read", all_namespaces=True)
    job = queue(gateway)
    succeed(registry, job, report())
    reader = await sign_in(key)
    await reader.open("/jobs")
    await reader.should_see(job.id, retries=30)
    await reader.should_not_see("Start a job", retries=1)
    await reader.open(f"/jobs/{job.id}")
    await reader.should_see("serve recycle", retries=30)
    await reader.should_not_see("Another candidate", retries=1)


class Told(httpx.AsyncByteStream):
    """The events of a job as a server streams them: `tell` sends one."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._count = 0

    def tell(self, note: Note) -> None:
        """Send an event."""
        self._count += 1
        event = {"id": self._count, "at": "2026-11-29T18:00:00Z", "level": note.level,
                 "kind": note.kind, "message": note.message, "data": note.data}  # fmt: skip
        self._frames.put_nowait(frame(json.dumps(event), kind=note.kind, number=self._count))

    def end(self) -> None:
        """Send the end of the job."""
        self._frames.put_nowait(frame("{}", kind="end"))
        self._frames.put_nowait(b"")

    def break_off(self) -> None:
        """Close the connection, as a server that stops does."""
        self._frames.put_nowait(b"")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what was sent, as it comes."""
        while sent := await self._frames.get():
            yield sent


class Live(httpx.AsyncBaseTransport):
    """A gateway whose events of jobs are those of `told`; `asked` has the requests for them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = httpx.ASGITransport(create_app(gateway))
        self.told, self.asked = Told(), list[str]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if not request.url.path.endswith("/events"):
            return await self._gateway.handle_async_request(request)
        self.asked.append(request.url.query.decode())
        return httpx.Response(200, stream=self.told)


@pytest.fixture
async def live(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[User, Live]]:
    """A browser on a gateway without keys whose events are told one by one."""
    monkeypatch.setattr(progress, "_RESUME_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_SHOW_SECONDS", 0.05)
    transport = Live(gateway)
    async with console_on(gateway, transport=transport) as browser:
        yield browser(), transport


async def test_losses_are_shown_while_a_job_learns(
    live: tuple[User, Live], gateway: Gateway, registry: Registry
) -> None:
    """Steps, losses, messages and measured candidates appear while the job runs."""
    user, server = live
    job = queue(gateway)
    run(registry, job)
    await user.open(f"/jobs/{job.id}")
    await user.should_see("No training has begun.", retries=30)
    server.told.tell(step(1, 2.0))
    await user.should_see("recycle: step 1 of 4", retries=30)
    server.told.tell(step(2, 1.5, 1.6))
    server.told.tell(Note("choosing members"))
    measured = {"candidate": "base", "figures": {"exact_match": figure(0.5), "pattern": None,
                                                 "loss": None}}  # fmt: skip
    server.told.tell(Note("base is measured.", kind="candidate", data=measured))
    await user.should_see("choosing members", retries=30)
    await user.should_see("50.0 [40.0, 60.0]")
    (chart,) = user.find(ui.echart).elements
    assert [[25.0, 2.0], [50.0, 1.5]] == chart.options["series"][1]["data"]


async def test_a_broken_stream_is_resumed(
    live: tuple[User, Live], gateway: Gateway, registry: Registry
) -> None:
    """When the stream of events breaks, the page goes on after the last event that it saw."""
    user, server = live
    job = queue(gateway)
    run(registry, job)
    await user.open(f"/jobs/{job.id}")
    server.told.tell(step(1, 2.0))
    server.told.break_off()
    server.told.tell(step(2, 1.5))
    await user.should_see("recycle: step 2 of 4", retries=30)
    assert ["", "after=1"] == server.asked


async def test_the_report_comes_when_the_job_ends(
    live: tuple[User, Live], gateway: Gateway, registry: Registry
) -> None:
    """A page that followed a job to its end shows the report in place of the progress."""
    user, server = live
    job = queue(gateway)
    run(registry, job)
    await user.open(f"/jobs/{job.id}")
    await user.should_see("No training has begun.", retries=30)
    registry.jobs.finish(job.id, WORKER, "succeeded", report=report(), model="team/bot@1")
    server.told.end()
    await user.should_see("serve recycle", retries=30)
    await user.should_not_see("No training has begun.", retries=1)


async def test_questions_end_with_the_page(
    live: tuple[User, Live], gateway: Gateway, registry: Registry
) -> None:
    """A closed page reads no events and asks for nothing any more."""
    user, server = live
    job = queue(gateway)
    run(registry, job)
    client = await user.open(f"/jobs/{job.id}")
    server.told.tell(step(1, 2.0))
    await user.should_see("recycle: step 1 of 4", retries=30)
    client.delete()
    server.told.break_off()
    await asyncio.sleep(0.1)
    assert [""] == server.asked
