"""Gateways whose jobs learn nothing: outcomes are invented, everything else is real."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from merge.peft_format import open_folder
from merge.recipe import Member, plan
from registry.callers import LOCAL, Caller
from registry.jobs.types import Job
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server.gateway import Gateway
from server.jobs.create import JobRequest, create_job
from server.jobs.runner import Intervals, Runner
from server.jobs.storage import keep_file
from server.jobs.worker import Entry, WorkerSpec
from tests.adapters import make_adapter
from tests.reading import read_adapter
from tests.server.conftest import BASE
from tests.server.jobs import children
from tests.server.jobs.engine import ScoringEngine

MEMBERS = ("zorp", "blim")
FAST = Intervals(look=0.02, beat=0.02, note=0.02, silence=20.0, retry=0.02, retries=3)
FRESH = "candidates/fresh_lora"
SECONDS = 120  # that a test waits for a job at most


def figure(value: float) -> dict[str, float]:
    """Return a figure with an interval."""
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def candidate(
    name: str, serve: Mapping[str, Any], accuracy: float, members: Iterable[str] = ()
) -> dict[str, Any]:
    """Return a candidate of an outcome."""
    figures = {"loss": figure(1 - accuracy), "exact_match": figure(accuracy), "pattern": None}
    return {
        "name": name, "title": f"the {name}", "figures": figures, "folded": figures,
        "energy": None, "best_step": 2, "curve": [[1, 2.0, None], [2, 1.5, 1.8]],
        "members": list(members), "detail": {}, "seconds": 0.1, "serve": dict(serve),
    }  # fmt: skip


def comparison(ours: str, holm: float | None = None) -> dict[str, Any]:
    """Return a comparison with the fresh LoRA."""
    return {
        "ours": ours, "theirs": "fresh_lora", "gain": figure(0.2), "p": 0.001, "p_worse": 0.99,
        "nats": figure(0.5), "p_nats": 0.002, "visible": 0.18, "needed": 90, "holm": holm,
    }  # fmt: skip


class MakeOutcome(Protocol):
    """Makes an outcome; keywords override."""

    def __call__(self, **changes: Any) -> dict[str, Any]:
        """Return it."""


@pytest.fixture
def fresh(registry: Registry, tmp_path: Path) -> Path:
    """An adapter that a job has made."""
    module = "model.layers.0.self_attn.q_proj"
    d_out, d_in = registry.bases.get(BASE).shapes[module]
    return make_adapter(tmp_path / "fresh_lora", modules={module: (d_in, d_out)}, base=BASE)


@pytest.fixture
def make_outcome(registry: Registry, versions: LocalBlobs, fresh: Path) -> MakeOutcome:
    """An outcome over zorp and blim in which recycle is best, before the fresh LoRA and the
    base.
    """

    def make(**changes: Any) -> dict[str, Any]:
        digests = [read_adapter(registry, name).versions[0].digest for name in MEMBERS]
        members = [
            Member.from_folder(name, open_folder(versions.path(digest)), 0.5, digest, base=BASE)
            for name, digest in zip(MEMBERS, digests, strict=True)
        ]
        recipe = plan("cat", members, options={}, base=BASE, dtype="float32", rank_limit=64)
        references = [f"{name}@1" for name in MEMBERS]
        recipe_serve = {"kind": "recipe", "recipe": recipe.canonical(), "adapters": {}}
        noise = {"kind": "nothing", "reason": "a control without content"}
        found = {
            "task": "0" * 64, "method": "recycle", "main": "recycle", "metric": "exact_match",
            "ranked": ["recycle", "random_parameters", "fresh_lora", "base"], "best": "recycle",
            "order": ["recycle", "fresh_lora", "base"], "verdict": "better", "questions": 12,
            "measured": {"folds": 5, "estimate": None, "fold_seconds": 1.2},
            "comparisons": [comparison("recycle"), comparison("random_parameters", holm=0.25)],
            "sentence": "serve recycle: it adds +20.0 ± 5.0 points to the fresh LoRA", "seed": 0,
            "trained_tokens": 77,
            "options": {"pattern": None, "longest_answer": 8}, "versions": {"weft": "0.1.0"},
            "selected": [], "seconds": {"recycle": 0.1},
            "candidates": [
                candidate("base", {"kind": "base"}, 0.1),
                candidate("fresh_lora", {"kind": "adapter", "folder": FRESH}, 0.4),
                candidate("recycle", recipe_serve, 0.6, references),
                candidate("random_parameters", noise, 0.5, references),
            ],
        }  # fmt: skip
        return found | changes

    return make


@pytest.fixture
def engine() -> ScoringEngine:
    return ScoringEngine(BASE)


def send_file(gateway: Gateway, text: str, caller: Caller = LOCAL) -> str:
    """Store a file with this text and return its id."""
    incoming = gateway.storage.incoming()
    incoming.write(text.encode())
    return keep_file(gateway.registry.files, gateway.storage, incoming, "x.jsonl", caller).id


def examples(count: int = 12) -> str:
    """Return `count` valid examples."""
    return "".join(
        json.dumps({"messages": [
            {"role": "user", "content": f"what is {n}?"}, {"role": "assistant", "content": str(n)},
        ]}) + "\n"
        for n in range(count)
    )  # fmt: skip


def queue(gateway: Gateway, caller: Caller = LOCAL, text: str | None = None, **wish: Any) -> Job:
    """Queue a job with valid examples over zorp and blim; `wish` overrides."""
    file = send_file(gateway, examples() if text is None else text, caller)
    asked: dict[str, Any] = {"pool": list(MEMBERS)} | wish
    return create_job(gateway.resolver, JobRequest(training_file=file, **asked), caller)


@asynccontextmanager
async def running(
    gateway: Gateway, entry: Entry, intervals: Intervals = FAST
) -> AsyncIterator[Runner]:
    """Run the queue with processes that run `entry`."""
    runner = Runner(
        gateway.settings, gateway.registry, gateway.versions, gateway.storage, gateway.finisher,
        gateway.bases, entry=entry, intervals=intervals,
    )  # fmt: skip
    gateway.jobs = runner
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop()
        await gateway.builder.stop()


async def ended(gateway: Gateway, job: Job) -> Job:
    """Return a job after its end."""
    async with asyncio.timeout(SECONDS):
        async for _ in gateway.feed.follow(job.id, caller=LOCAL):
            pass
    return gateway.registry.jobs.get(job.id)


async def told(gateway: Gateway, job: Job, word: str) -> Mapping[str, Any]:
    """Wait for the first log entry that contains a word, and return its data."""
    async with asyncio.timeout(SECONDS):
        async for events in gateway.feed.follow(job.id, caller=LOCAL):
            for event in events:
                if word in event.message:
                    return event.data
    raise AssertionError(f"nothing in the log says {word}")


def log_of(gateway: Gateway, job: Job) -> list[str]:
    """Return the messages of a job's log, oldest first."""
    page = gateway.registry.jobs.events(job.id, limit=1000, oldest_first=True)
    return [event.message for event in page.items]


def learned(gateway: Gateway, job: Job, outcome: Mapping[str, Any], fresh: Path) -> None:
    """Write a job's folder as a process with this outcome leaves it."""
    folder = gateway.storage.folder(job.id)
    folder.mkdir(parents=True)
    spec = WorkerSpec({}, (), Path(), None, folder, Path(), "", "", "", "", 1, 1.0, None)
    learns(outcome, fresh)(spec, lambda _: None)


def learns(outcome: Mapping[str, Any], fresh: Path) -> Callable[..., None]:
    """Return an entry point that returns this outcome."""
    return partial(children.learn, outcome, {FRESH: fresh})
