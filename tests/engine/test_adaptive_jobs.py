"""Adaptive jobs from a file of examples to an answer, with real training and a real engine."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.fine_tuning import FineTuningJob

from server.cli.demo import import_demo_adapters
from tests.engine.gateway import BASE, Weft, running, serve_settings
from tests.lab.language import TASKS

# A job trains three times in a process of its own, beside all other tests.
SECONDS = 500
pytestmark = pytest.mark.timeout(900)
TINY = {
    "pool": ["zorp", "blim"], "k": 3, "steps": 20, "fresh_steps": 20, "fresh_rank": 8, "folds": 2,
    "reality_check": False,
}  # fmt: skip
LONG = {**TINY, "fresh_steps": 1000, "fresh_rank": 64, "folds": 0, "reality_check": True}


def examples(name: str, count: int = 20) -> bytes:
    """Return a file with examples of a demo task."""
    drawn = TASKS[name].prompts(count, seed=3)
    return b"".join(
        json.dumps({"messages": [
            {"role": "user", "content": each.prompt},
            {"role": "assistant", "content": each.answer},
        ]}).encode() + b"\n"
        for each in drawn
    )  # fmt: skip


async def begin(client: AsyncOpenAI, options: dict[str, Any], name: str = "zorp") -> FineTuningJob:
    """Upload examples and create a job that learns from them."""
    file = await client.files.create(file=("x.jsonl", examples(name)), purpose="fine-tune")
    method: Any = {"type": "adaptive_merge", "adaptive_merge": {"hyperparameters": options}}
    return await client.fine_tuning.jobs.create(
        model=BASE, training_file=file.id, method=method, suffix=name, seed=1
    )


async def ended(client: AsyncOpenAI, job: str) -> FineTuningJob:
    """Wait until a job has ended and return it."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await client.fine_tuning.jobs.retrieve(job)
            if found.status not in ("validating_files", "queued", "running"):
                return found
            await asyncio.sleep(0.2)


async def pid_of(client: AsyncOpenAI, job: str, not_this: int = 0) -> int:
    """Wait until a job has trained a step in a process other than `not_this`; return its pid."""
    async with asyncio.timeout(SECONDS):
        while True:
            events = [e async for e in client.fine_tuning.jobs.list_events(job, limit=100)]
            began = [at for at, e in enumerate(events) if "process has started" in e.message]
            if began and any(e.type == "metrics" for e in events[: began[0]]):
                data: Any = events[began[0]].data
                if data["pid"] != not_this:
                    return int(data["pid"])
            await asyncio.sleep(0.1)


def is_there(pid: int) -> bool:
    """Return whether a process is alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_from_a_file_to_an_answer(weft: Weft) -> None:
    """The best candidate answers under its name and, served, scores as the adapter that was
    trained on all examples; the verdict is on marks of trainings that had not seen them."""
    async with weft.openai() as client, weft.http() as http:
        job = await ended(client, (await begin(client, TINY)).id)
        assert "succeeded" == job.status, job.error
        assert job.fine_tuned_model is not None
        answer = await client.chat.completions.create(
            model=job.fine_tuned_model, temperature=0, max_tokens=16,
            messages=[{"role": "user", "content": "zorp: abc"}],
        )  # fmt: skip
        report = (await http.get(f"/registry/jobs/{job.id}/report")).json()
    assert "CBA" == answer.choices[0].message.content
    found = {each["name"]: each for each in report["candidates"]}
    assert {"base", "fresh_lora", "recycle"} == set(found)
    assert ("better", 20, "recycle") == (
        report["verdict"], report["questions"], report["published"]["candidate"],
    )  # fmt: skip
    for name in {report["main"], report["published"]["candidate"]}:
        assert found[name]["energy"] is None, "three adapters of small ranks fold exactly"
        assert abs(found[name]["served"]["difference"]["loss"]) < 1e-3
        assert 0.0 == found[name]["served"]["difference"]["exact_match"]


@pytest.mark.slow
@pytest.mark.faults
async def test_a_killed_process_goes_on_and_a_cancelled_one_is_dead(weft: Weft) -> None:
    """A job whose process is killed in training continues in another process; a cancel ends that
    process."""
    async with weft.openai() as client:
        job = await begin(client, LONG)
        first = await pid_of(client, job.id)
        os.kill(first, signal.SIGKILL)
        second = await pid_of(client, job.id, not_this=first)
        await client.fine_tuning.jobs.cancel(job.id)
        assert "cancelled" == (await ended(client, job.id)).status
        assert not is_there(second)
        said = [e.message async for e in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert any("ended by signal 9" in each for each in said)


@pytest.mark.slow
@pytest.mark.faults
async def test_a_killed_gateway_s_job_goes_on_in_the_next(tmp_path: Path) -> None:
    """A job of a killed gateway continues in the next one, to a model that answers."""
    settings = serve_settings(tmp_path / "home", self_test=False)
    import_demo_adapters(settings)
    with running(settings) as first:
        async with first.openai() as client:
            job = await begin(client, {**LONG, "fresh_steps": 200, "reality_check": False})
            pid = await pid_of(client, job.id)
        first.process.kill()
        first.process.wait()
    async with asyncio.timeout(SECONDS):
        while is_there(pid):
            await asyncio.sleep(0.1)
    with running(settings) as second:
        async with second.openai() as client:
            done = await ended(client, job.id)
            assert "succeeded" == done.status, done.error
            assert done.fine_tuned_model is not None
            await client.completions.create(model=done.fine_tuned_model, prompt="x", max_tokens=1)
