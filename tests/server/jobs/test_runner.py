"""The queue runs every job to its end, even when its process or its gateway dies."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from registry.storage.errors import DatabaseUnavailable
from server.gateway import Gateway
from server.jobs import worker
from server.jobs.runner import MOST_ATTEMPTS, Intervals, JobResult
from tests.server.conftest import MakeGateway
from tests.server.jobs import children
from tests.server.jobs.conftest import (
    FAST,
    SECONDS,
    MakeOutcome,
    ended,
    learned,
    learns,
    log_of,
    queue,
    running,
    told,
)
from tests.server.jobs.engine import ScoringEngine


def is_there(pid: int) -> bool:
    """Return whether a process is alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_job_runs_to_its_end(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """Its steps are in its log, its outcome is in its report, and its row names the model."""
    job = queue(gateway, name="team/bot")
    async with running(gateway, learns(make_outcome(), fresh)):
        done = await ended(gateway, job)
    assert ("succeeded", "team/bot@1", None, 1) == (
        done.status, done.model, done.error, done.attempts,
    )  # fmt: skip
    events = gateway.registry.jobs.events(job.id, limit=100, oldest_first=True).items
    steps = [event.data["step"] for event in events if event.kind == "metrics"]
    assert [*range(1, children.STEPS + 1)] == steps
    report = gateway.registry.jobs.report(job.id)
    assert report is not None
    assert {"candidate": "recycle", "model": "team/bot@1"} == report["published"]


@pytest.mark.faults
async def test_a_killed_process_is_started_again(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """It resumes in the folder that it left, and the log says so."""
    job = queue(gateway)
    again = partial(children.die_once, make_outcome(), {"candidates/fresh_lora": fresh})
    async with running(gateway, again):
        assert "succeeded" == (await ended(gateway, job)).status
    assert any(
        "ended by signal 9" in message and "resumes" in message for message in log_of(gateway, job)
    )


async def test_a_process_that_is_always_killed_fails_its_job(gateway: Gateway) -> None:
    """A child that dies three times fails its job, and the error has the reason."""
    job = queue(gateway)
    async with running(gateway, children.die):
        done = await ended(gateway, job)
    assert "failed" == done.status
    assert done.error is not None
    assert "worker_died" == done.error["code"]
    assert "signal 9" in done.error["message"]
    assert f"started {MOST_ATTEMPTS} times" in done.error["message"]


@pytest.mark.parametrize(
    ("entry", "code", "says"),
    [
        (children.diverge, "loss_not_finite", "at step 7 is not finite"),
        (children.fill_the_disk, "storage_full", "no room"),
        (children.break_down, "internal_error", "internal error"),
    ],
)
async def test_what_ends_the_learning_is_the_job_s_error(
    gateway: Gateway, entry: worker.Entry, code: str, says: str
) -> None:
    """NaN, a full disk and a fault of the server end a job at once, with a code and a message."""
    job = queue(gateway)
    async with running(gateway, entry):
        done = await ended(gateway, job)
    assert ("failed", 1) == (done.status, done.attempts)
    assert done.error is not None
    assert code == done.error["code"]
    assert says in done.error["message"]


async def test_bad_lines_end_a_job_before_anything_is_loaded(gateway: Gateway) -> None:
    """The message has the first few bad lines by number, and the log has all of them."""
    lines = ['{"messages": []}'] * 30
    job = queue(gateway, text="\n".join(lines))
    async with running(gateway, worker.learn):
        done = await ended(gateway, job)
        data = await told(gateway, job, "30 bad lines")
    assert done.error is not None
    assert ("invalid_training_file", "training_file") == (done.error["code"], done.error["param"])
    assert "line 1:" in done.error["message"]
    assert [*range(1, 31)] == [line["number"] for line in data["lines"]]


async def test_a_cancelled_job_is_dead(gateway: Gateway) -> None:
    """Its process is gone when its row says cancelled, and so are its files."""
    job = queue(gateway)
    async with running(gateway, children.hang, replace(FAST, beat=Intervals().beat)):
        pid = (await told(gateway, job, "waiting"))["pid"]
        assert is_there(pid)
        gateway.registry.jobs.cancel(job.id)
        assert "cancelled" == (await ended(gateway, job)).status
        assert not is_there(pid)
    assert not gateway.storage.folder(job.id).exists()


def test_a_job_of_another_keeps_its_files(gateway: Gateway) -> None:
    """A gateway that ends a job which another one has taken over changes neither its files nor its
    row."""
    job = queue(gateway)
    lost = gateway.registry.jobs.claim("first", "cpu")
    assert lost is not None
    gateway.registry.jobs.release(job.id, "first")
    assert gateway.registry.jobs.claim("second", "cpu") is not None
    gateway.storage.folder(job.id).mkdir()
    gateway.jobs._store(lost, JobResult("cancelled"))
    assert gateway.storage.folder(job.id).exists()
    assert "running" == gateway.registry.jobs.get(job.id).status


async def test_a_job_whose_time_is_over_is_dead(make_gateway: MakeGateway) -> None:
    """At its limit a job fails, its process and files are gone, and the next job has its turn."""
    gateway = make_gateway(job_devices=("cpu",), job_timeout_seconds=1)
    jobs, others = (queue(gateway), queue(gateway)), set(multiprocessing.active_children())
    async with running(gateway, children.hang):
        for done in [await ended(gateway, job) for job in jobs]:
            assert ("failed", 1) == (done.status, done.attempts)
            assert done.error is not None
            assert ("job_timeout", None) == (done.error["code"], done.error["param"])
            assert "longer than 1 s" in done.error["message"]
            assert not gateway.storage.folder(done.id).exists()
        assert set(multiprocessing.active_children()) <= others


async def test_a_stopped_queue_puts_its_job_back(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """It is queued again without an attempt being counted, and the next queue claims it."""
    job = queue(gateway)
    async with running(gateway, children.hang):
        pid = (await told(gateway, job, "waiting"))["pid"]
    assert not is_there(pid)
    waiting = gateway.registry.jobs.get(job.id)
    assert ("queued", 0) == (waiting.status, waiting.attempts)
    async with running(gateway, learns(make_outcome(), fresh)):
        assert "succeeded" == (await ended(gateway, job)).status


@pytest.mark.faults
async def test_a_killed_gateway_s_job_is_taken_up_by_the_next(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """Its process dies with the gateway, and its row is claimed once its heartbeat is too old."""
    job = queue(gateway)
    command = [
        sys.executable,
        "-m",
        "tests.server.jobs.gateway_process",
        str(gateway.settings.home),
    ]
    with subprocess.Popen(command) as other:  # noqa: ASYNC220 - it is only started here
        pid = (await told(gateway, job, "waiting"))["pid"]
        other.kill()
        other.wait()
    assert "running" == gateway.registry.jobs.get(job.id).status
    async with running(gateway, learns(make_outcome(), fresh), replace(FAST, silence=0.0)):
        assert "succeeded" == (await ended(gateway, job)).status
    while is_there(pid):  # it hangs on a pipe that broke with its parent
        os.sched_yield()
    assert 2 == gateway.registry.jobs.get(job.id).attempts


async def test_what_was_learned_is_not_learned_again(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path
) -> None:
    """A job whose gateway died after the learning is finished by the next, without a child."""
    job = queue(gateway)
    learned(gateway, job, make_outcome(), fresh)
    async with running(gateway, children.die):
        assert "succeeded" == (await ended(gateway, job)).status


async def test_a_job_of_another_worker_is_released(gateway: Gateway) -> None:
    """Its process is ended, and its row is left to the other worker."""
    job = queue(gateway)
    jobs = gateway.registry.jobs
    async with running(gateway, children.hang):
        pid = (await told(gateway, job, "waiting"))["pid"]
        jobs.requeue(-1)
        assert jobs.claim("other", "cpu") is not None
        async with asyncio.timeout(SECONDS):
            while is_there(pid):
                await asyncio.sleep(0)
    assert "other" == jobs.get(job.id).worker


async def test_a_database_that_is_away_is_waited_for(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats and the result of a job are sent again until the database answers."""
    failing = ["beat", "note", "finish", "finish"]
    jobs = type(gateway.registry.jobs)

    def away(name: str) -> None:
        real = getattr(jobs, name)

        def call(*args: object, **kwargs: object) -> object:
            if name in failing:
                failing.remove(name)
                raise DatabaseUnavailable("locked")
            return real(*args, **kwargs)

        monkeypatch.setattr(jobs, name, call)

    for name in dict.fromkeys(failing):
        away(name)
    job = queue(gateway)
    async with running(gateway, learns(make_outcome(), fresh)):
        done = await ended(gateway, job)
    assert ("succeeded", []) == (done.status, failing)
    assert "step 5" in log_of(gateway, job)


async def test_an_engine_that_stays_away_keeps_no_job_waiting(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path, engine: ScoringEngine
) -> None:
    """After some tries the job ends without the engine's score, and the report says so."""
    engine.up = False
    job = queue(gateway)
    async with running(gateway, learns(make_outcome(), fresh)):
        done = await ended(gateway, job)
    report = gateway.registry.jobs.report(job.id)
    assert report is not None
    assert ("succeeded", True) == (done.status, "there is no engine" in report["served"])


async def test_no_device_takes_no_job(make_gateway: MakeGateway) -> None:
    """A gateway without job devices leaves jobs to others."""
    gateway = make_gateway(job_devices="")
    job = queue(gateway)
    async with running(gateway, children.die) as runner:
        assert [] == runner._tasks
    assert "queued" == gateway.registry.jobs.get(job.id).status


def test_a_cancel_is_noticed_in_time() -> None:
    """A heartbeat, which reads the cancellation, comes at least every half second."""
    assert Intervals().beat <= 0.5


async def test_after_an_outage_workers_have_time_to_beat(
    gateway: Gateway, make_outcome: MakeOutcome, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that could not reach the database takes no job away as soon as it is back: its
    worker could not send a heartbeat either."""
    calls: list[float] = []
    outage = [DatabaseUnavailable("gone")] * 3

    def requeue(silence: float, **_: int) -> tuple[()]:
        calls.append(silence)
        if outage:
            raise outage.pop()
        return ()

    monkeypatch.setattr(gateway.registry.jobs, "requeue", requeue)
    async with running(gateway, learns(make_outcome(), fresh)):
        await asyncio.sleep(0.5)
    assert [FAST.silence] == calls
