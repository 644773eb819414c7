"""/registry/jobs: create, watch, show, publish and cancel a job."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from httpx import AsyncClient

from registry.references import Reference
from server.gateway import Gateway
from tests.server.admin.conftest import ClientOf, items, problem
from tests.server.jobs import children
from tests.server.jobs import conftest as jobs
from tests.server.jobs.conftest import MakeOutcome, ended, learns, running, told

# What the jobs' own tests are set up with.
fresh, make_outcome, engine = jobs.fresh, jobs.make_outcome, jobs.engine
EXAMPLES = [json.loads(line) for line in jobs.examples().splitlines()]
ASKED = {"examples": EXAMPLES, "pool": ["zorp", "blim"], "name": "bot", "k": 2}


async def ask(client: AsyncClient, **changes: Any) -> dict[str, Any]:
    """Queue a job and return it."""
    answer = await client.post("/registry/jobs", json=ASKED | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
async def done(
    client: AsyncClient, gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> AsyncIterator[str]:
    """The id of a succeeded job."""
    async with running(gateway, learns(make_outcome(), fresh)):
        job = await ask(client)
        await ended(gateway, gateway.registry.jobs.get(job["id"]))
        yield job["id"]


async def test_a_job_is_asked_for_and_shown(client: AsyncClient) -> None:
    """Inline examples become a file, and the options are shown with all defaults."""
    job = await ask(client, options={"steps": 7}, seed=3, metadata={"ticket": "L-17"})
    assert ("queued", None, "bot", 2, 3) == (
        job["status"], job["model"], job["name"], job["members"], job["seed"],
    )  # fmt: skip
    assert ([2], 7) == (job["options"]["k"], job["options"]["steps"])
    assert job == (await client.get(f"/registry/jobs/{job['id']}")).json()
    assert [job] == items(await client.get("/registry/jobs"))
    assert [] == items(await client.get("/registry/jobs", params={"status": "running"}))
    file = await client.get(f"/v1/files/{job['training_file']}/content")
    assert EXAMPLES == [json.loads(line) for line in file.text.splitlines()]


async def test_what_comes_of_it(client: AsyncClient, done: str) -> None:
    """A job has a report and a chart, and another candidate can be published."""
    report = (await client.get(f"/registry/jobs/{done}/report")).json()
    assert {"candidate": "recycle", "model": "bot@1"} == report["published"]
    chart = await client.get(f"/registry/jobs/{done}/chart")
    assert "image/svg+xml" == chart.headers["content-type"]
    assert "svg" in ElementTree.fromstring(chart.text).tag  # noqa: S314 - it is ours
    published = await client.post(
        f"/registry/jobs/{done}/publish", json={"candidate": "fresh_lora", "name": "lora"}
    )
    assert "lora@1" == published.json()["model"]
    answer = await client.post("/v1/chat/completions", json={"model": "lora@1", "messages": []})
    assert 200 == answer.status_code


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the kind and data of a stream's events."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.splitlines())
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def test_a_stopping_server_ends_the_stream_of_a_job_that_goes_on(
    client: AsyncClient, gateway: Gateway, done: str
) -> None:
    """Followers of a job do not keep a server from stopping: their streams end without an end
    event, so that they go on elsewhere."""
    gateway.stopping.begun = True
    answer = await client.get(f"/registry/jobs/{done}/events")
    kinds = [kind for kind, _ in events_of(answer.text)]
    assert kinds
    assert "end" not in kinds


async def test_events_are_streamed_to_the_end(client: AsyncClient, done: str) -> None:
    """Events arrive in order; `after` and Last-Event-ID skip earlier ones."""
    path = f"/registry/jobs/{done}/events"
    answer = await client.get(path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert ("message", "The job was queued.") == (events[0][0], events[0][1]["message"])
    assert "The job succeeded." == events[-2][1]["message"]
    assert ("end", done, "bot@1") == (events[-1][0], events[-1][1]["id"], events[-1][1]["model"])
    assert children.STEPS == sum(kind == "metrics" for kind, _ in events)
    third = events[2][1]["id"]
    for asked in ({"params": {"after": third}}, {"headers": {"last-event-id": str(third)}}):
        rest = events_of((await client.get(path, **asked)).text)
        assert events[3:] == rest


async def test_a_job_is_cancelled(client: AsyncClient, gateway: Gateway) -> None:
    """A cancel ends a running job's process; a second cancel is refused."""
    job = await ask(client)
    async with running(gateway, children.hang):
        row = gateway.registry.jobs.get(job["id"])
        await told(gateway, row, "waiting")
        assert 200 == (await client.post(f"/registry/jobs/{job['id']}/cancel")).status_code
        assert "cancelled" == (await ended(gateway, row)).status
    problem(await client.post(f"/registry/jobs/{job['id']}/cancel"), 409, "job_finished")


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"examples": None}, 400, "invalid_request"),
        ({"training_file": "file-" + "0" * 24}, 400, "invalid_request"),
        ({"examples": None, "training_file": "file-" + "0" * 24}, 404, "file_not_found"),
        ({"options": {"stepz": 1}}, 400, "invalid_options"),
        ({"options": {"recipe": "lego(", "method": "scale"}}, 400, "invalid_expression"),
        ({"pool": "rank<"}, 400, "invalid_filter"),
        ({"pool": "status=retired"}, 400, "invalid_pool"),
        ({"pool": "tag=nothing"}, 404, "pool_empty"),
        ({"pool": ["zorb"]}, 404, "model_not_found"),
        ({"serve": "fresh"}, 400, "invalid_request"),
        ({"name": "weft/demo-llama"}, 409, "name_taken"),
        ({"k": [5, 5]}, 400, "invalid_options"),
    ],
)
async def test_what_makes_no_sense_is_a_problem(
    client: AsyncClient, gateway: Gateway, changes: dict[str, Any], status: int, code: str
) -> None:
    """An invalid request is refused at once and leaves no file."""
    problem(await client.post("/registry/jobs", json=ASKED | changes), status, code)
    assert () == gateway.registry.files.page().items


async def test_a_report_is_for_jobs_that_have_one(client: AsyncClient) -> None:
    """Only a job with a report returns one, and only a succeeded job publishes a candidate."""
    job = await ask(client)
    path = f"/registry/jobs/{job['id']}"
    problem(await client.get(f"{path}/report"), 409, "job_not_succeeded")
    problem(await client.get(f"{path}/chart"), 409, "job_not_succeeded")
    body = {"candidate": "base"}
    problem(await client.post(f"{path}/publish", json=body), 409, "job_not_succeeded")


async def test_only_what_can_be_served_is_published(
    client: AsyncClient, gateway: Gateway, done: str
) -> None:
    """Unknown candidates, controls without content and quarantined members are refused."""
    path = f"/registry/jobs/{done}/publish"
    unknown = problem(await client.post(path, json={"candidate": "other"}), 400, "invalid_request")
    assert "The candidates are base, fresh_lora, recycle" in unknown["detail"]
    noise = await client.post(path, json={"candidate": "random_parameters"})
    assert "without content" in problem(noise, 409, "not_servable")["detail"]
    gateway.registry.versions.quarantine(Reference(name="zorp", version=1), "in verse", "t")
    unfit = await client.post(path, json={"candidate": "recycle"})
    assert "in verse" in problem(unfit, 409, "not_servable")["detail"]


async def test_jobs_belong_to_namespaces(client_of: ClientOf) -> None:
    """Jobs of another namespace do not exist for a caller, and names must be in the caller's
    own.
    """
    ours, theirs = await client_of("publish", "team"), await client_of("publish", "other")
    problem(await ours.post("/registry/jobs", json=ASKED), 403, "access_denied")
    job = await ask(ours, name="team/bot")
    path = f"/registry/jobs/{job['id']}"
    assert [] == items(await theirs.get("/registry/jobs"))
    for answer in (
        await theirs.get(path), await theirs.get(f"{path}/events"),
        await theirs.get(f"{path}/report"), await theirs.post(f"{path}/cancel"),
        await theirs.post(f"{path}/publish", json={"candidate": "base"}),
    ):  # fmt: skip
        problem(answer, 404, "job_not_found")


async def test_a_waiting_stream_sees_the_end(client: AsyncClient, gateway: Gateway) -> None:
    """A stream that is open from the start reports an end that another caller causes."""
    job = await ask(client)
    gateway.registry.jobs.cancel(job["id"])
    events = events_of((await client.get(f"/registry/jobs/{job['id']}/events")).text)
    assert ["message", "message", "end"] == [kind for kind, _ in events]
    assert "cancelled" == events[-1][1]["status"]
