"""`weft adapt` and `weft jobs`, at home and against a server."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from registry.jobs.types import Job
from registry.service import Registry
from server.gateway import Gateway
from server.jobs import worker
from tests.reading import read_composition
from tests.server.commands import failed, words
from tests.server.conftest import MakeGateway, Weft
from tests.server.jobs import children
from tests.server.jobs.conftest import MakeOutcome, examples, learns, queue, running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of valid examples."""
    path = tmp_path / "examples.jsonl"
    path.write_text(examples())
    return path


@pytest.fixture
def learning(make_outcome: MakeOutcome, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job has the same outcome."""
    monkeypatch.setattr(worker, "learn", learns(make_outcome(), fresh))


@pytest.fixture
def served(make_gateway: MakeGateway, make_outcome: MakeOutcome, fresh: Path) -> Iterator[Gateway]:
    """The queue of a server on the test's home."""
    gateway, loop, stop = make_gateway(), asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        async with running(gateway, learns(make_outcome(), fresh)):
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    yield gateway
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def shown(result: Result) -> Mapping[str, Any]:
    """Return a command's output as JSON."""
    assert result.exit_code == 0, result.output
    found: Mapping[str, Any] = json.loads(result.stdout)
    return found


def test_at_home_the_whole_of_it_runs(
    weft: Weft, file: Path, learning: None, shared_workers: None, registry: Registry
) -> None:
    """At home a job runs to its table and sentence; the best candidate is published but not
    served.
    """
    result = weft("adapt", file, "--pool", "name=zorp,blim", "--k", 2, "--name", "bot")
    printed = " ".join(result.stdout.split())
    assert {"recycle", "fresh_lora", "base", "published"} <= words(result)
    assert "60.0 [50.0, 70.0]" in printed
    assert "serve recycle: it adds" in printed
    assert "there is no engine to score with" in printed
    assert "succeeded: its model is bot@1" in printed
    assert "recycle answers as bot@1" in result.stderr
    assert "bot" == read_composition(registry, "bot").versions[0].name
    (job,) = registry.jobs.page().items
    assert job.id in words(weft("jobs", "list"))
    assert {"bot@1", "recycle"} <= words(weft("jobs", "show", job.id))
    published = weft("jobs", "publish", job.id, "fresh_lora", "--name", "lora")
    assert "its model is lora@1" in published.stdout
    failed(weft("jobs", "cancel", job.id), "has ended (succeeded)")


def test_at_a_server_its_queue_runs_it(remote: Weft, file: Path, served: Gateway) -> None:
    """A server's queue runs the job, events are streamed, and figures are those of the served
    model.
    """
    found = shown(remote("adapt", file, "--member", "zorp", "--member", "blim", "--json"))
    assert "succeeded" == found["job"]["status"]
    assert ["zorp", "blim"] == found["job"]["pool"]
    assert found["report"]["candidates"][2]["served"]["artifact"]
    assert [found["job"]["id"]] == [job["id"] for job in json.loads(
        remote("jobs", "list", "--status", "succeeded", "--json").stdout
    )]  # fmt: skip


def test_options_are_passed_on(weft: Weft, file: Path, learning: None, registry: Registry) -> None:
    """Named options, `--option` and the validation file reach the request."""
    held_out = file.with_name("held-out.jsonl")
    held_out.write_text(examples(20).splitlines()[-1])
    weft(
        "adapt", file, "--validation", held_out, "--method", "lorahub", "--k", "2,3", "--seed", 5,
        "--option", "budget=7", "--serve", "none",
    )  # fmt: skip
    (job,) = registry.jobs.page().items
    options = job.request["options"]
    assert ("lorahub", [2, 3], 7, 5) == (
        options["method"], options["k"], options["budget"], options["seed"],
    )  # fmt: skip
    assert ("none", True) == (job.request["serve"], job.validation_file is not None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--k", "two"], "--k 'two'"),
        (["--pool", "tag=law", "--member", "zorp"], "give one of them"),
        (["--option", "stepz=3"], "did you mean steps"),
        (["--pool", "tag=law"], "no adapter for"),
        (["--serve", "fresh"], "serve must be one of"),
        (["--option", "steps"], "write name=value"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    weft: Weft, file: Path, arguments: list[str], says: str
) -> None:
    """An invalid request is one sentence and exit code 1."""
    failed(weft("adapt", file, *arguments), says)


def test_bad_lines_are_told_before_anything_is_sent(weft: Weft, file: Path) -> None:
    """All bad lines are reported by number before anything is sent."""
    file.write_text("no\n" + examples() + "{}\n")
    failed(weft("adapt", file), "line 1: not JSON", "line 14: expected")


def test_a_job_that_fails_is_a_sentence(
    weft: Weft, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed job is one sentence with its code; the JSON has it in the job."""
    monkeypatch.setattr(worker, "learn", children.diverge)
    result = weft("adapt", file)
    assert 1 == result.exit_code
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ftjob-")
    assert "failed (loss_not_finite): recycle: the loss at step 7" in last
    result = weft("adapt", file, "--json")
    assert 1 == result.exit_code
    assert "loss_not_finite" == json.loads(result.stdout)["job"]["error"]["code"]


def test_a_waiting_job_is_cancelled(weft: Weft, gateway: Gateway) -> None:
    """A queued job is cancelled at once."""
    job: Job = queue(gateway)
    assert f"{job.id}: queued" in weft("jobs", "show", job.id).stdout
    assert "cancelled" in words(weft("jobs", "cancel", job.id))
    assert "cancelled" == gateway.registry.jobs.get(job.id).status
    failed(weft("jobs", "show", "ftjob-" + "0" * 24), "No job has the id")
