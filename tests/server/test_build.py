"""Builds: one per recipe at a time; a failed one leaves nothing and is not cached."""

import asyncio
import pickle
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from merge.errors import UnsafeResult
from merge.recipe import Recipe
from registry.callers import Caller
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from server.artifacts import worker
from server.artifacts.build import TooManyBuilds
from server.artifacts.store import StoreBroken, StoreFull
from server.artifacts.worker import BuildTimeout
from server.compose.resolve import Planned
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server import faulty_builds
from tests.server.conftest import DEMO, MakeGateway, MakeSettings
from tests.serving import serving


def recipe(gateway: Gateway, text: str = "cat(zorp, blim)") -> Recipe:
    """Return the recipe of an expression."""
    target = gateway.resolver.resolve(text)
    assert isinstance(target, Planned)
    return target.recipe


def merges(gateway: Gateway, method: str = "cat", outcome: str = "done") -> float:
    """Return the number of counted merges."""
    labels = {"method": method, "outcome": outcome}
    return gateway.metrics.registry.get_sample_value("weft_merges_total", labels) or 0.0


def left_over(gateway: Gateway) -> list[str]:
    """Return the entries of the store that are not artifacts."""
    folder = gateway.settings.artifacts / ".workspaces"
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


async def test_a_hundred_builds_of_one_recipe_are_one_merge(gateway: Gateway) -> None:
    """All requests for a recipe under construction wait for the one merge."""
    asked = recipe(gateway)
    digests = await asyncio.gather(*(gateway.builder.build(asked) for _ in range(100)))
    assert 1 == len(set(digests)) == merges(gateway)
    assert frozenset(digests) == gateway.artifacts.digests()
    assert [] == left_over(gateway)


async def test_a_mix_of_chat_templates_is_noted(gateway: Gateway, tmp_path: Path) -> None:
    """The report of a merge says that its ingredients were trained with different templates, and
    says nothing where they agree.
    """
    for name, template in (("zorp", "{{ one }}"), ("blim", "{{ two }}"), ("tref", "{{ two }}")):
        folder = tmp_path / name
        shutil.copytree(DEMO / "adapters" / name, folder)
        (folder / "chat_template.jinja").write_text(template)
        gateway.registry.adapters.register(folder, name=f"own-{name}")
    notes = []
    for text in ("cat(own-zorp, own-blim)", "cat(own-blim, own-tref)"):
        digest = await gateway.builder.build(recipe(gateway, text))
        notes.append(gateway.registry.catalogue.artifact(digest).report.get("notes", []))
    assert "different chat templates" in str(notes[0])
    assert [] == notes[1]


async def test_different_recipes_are_different_artifacts(gateway: Gateway) -> None:
    """Recipes that differ in a weight are merged separately."""
    asked = [recipe(gateway, f"cat({weight}*zorp, blim)") for weight in (0.5, 1, 2)]
    digests = await asyncio.gather(*(gateway.builder.build(one) for one in asked))
    assert 3 == len(set(digests)) == merges(gateway)


async def test_a_build_is_written_down(
    gateway: Gateway, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry records a recipe, its ingredients and its artifact, in one transaction."""
    asked, begun, transaction = recipe(gateway), [], Database.transaction

    def counted(self: Database, *args: Any, **options: Any) -> Any:
        begun.append(self)
        return transaction(self, *args, **options)

    monkeypatch.setattr(Database, "transaction", counted)
    digest = await gateway.builder.build(asked)
    assert 1 == len(begun)
    assert digest == registry.compositions.artifact_of(asked.digest())
    made_by = registry.compositions.lineage(digest).made_by
    assert [asked.digest()] == [record.digest for record in made_by]
    assert [item.digest for item in asked.ingredients] == [
        item.digest for item in made_by[0].ingredients
    ]


async def test_a_client_that_leaves_does_not_end_the_build_of_others(gateway: Gateway) -> None:
    """Cancelling one waiter does not stop the merge for the others."""
    asked = recipe(gateway)
    first = asyncio.create_task(gateway.builder.build(asked))
    second = asyncio.create_task(gateway.builder.build(asked))
    await asyncio.sleep(0)
    first.cancel()
    assert await second in gateway.artifacts.digests()
    assert merges(gateway) == 1


async def test_an_unsafe_merge_is_remembered_and_leaves_nothing(gateway: Gateway) -> None:
    """A refused result becomes no artifact, and the next request is refused without a merge."""
    asked = recipe(gateway, "cat(1e4*zorp)")
    for _ in range(3):
        with pytest.raises(UnsafeResult, match="above the limit of 1000"):
            await gateway.builder.build(asked)
    assert 1 == merges(gateway, outcome="failed")
    assert (frozenset(), []) == (gateway.artifacts.digests(), left_over(gateway))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [(faulty_builds.fill_the_disk, StoreFull), (faulty_builds.lose_the_disk, StoreBroken)],
)
async def test_a_failing_disk_leaves_nothing_and_is_not_remembered(
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[..., worker.Built],
    expected: type[Exception],
) -> None:
    """A full disk is StoreFull, a broken one StoreBroken; the next build succeeds."""
    asked = recipe(gateway)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "build", fault)
        with pytest.raises(expected):
            await gateway.builder.build(asked)
    assert [] == left_over(gateway)
    assert await gateway.builder.build(asked) in gateway.artifacts.digests()


async def test_a_build_that_takes_too_long_is_given_up(make_gateway: MakeGateway) -> None:
    """A merge over its time is BuildTimeout, leaves nothing, and its worker continues to work."""
    patient = make_gateway()
    gateway = make_gateway(merge_timeout_seconds=0.005)
    asked = recipe(patient, "lego(zorp, blim, tref, krun; n_init=1000)")
    for _ in range(2):
        with pytest.raises(BuildTimeout):
            await gateway.builder.build(asked)
    assert 1 == merges(gateway, "lego", "failed")
    assert [] == left_over(gateway)
    assert await patient.builder.build(recipe(patient)) in patient.artifacts.digests()


async def test_the_loop_runs_while_a_merge_does(gateway: Gateway) -> None:
    """A merge does not block the event loop."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    asked = recipe(gateway, "lego(zorp, blim, tref; n_init=20)")
    ticking = asyncio.create_task(tick())
    seconds = await _timed(gateway.builder.build(asked))
    ticking.cancel()
    assert ticks > seconds / 0.005 / 5


async def _timed(work: Coroutine[Any, Any, str]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await work
    return loop.time() - began


def test_a_timeout_says_so() -> None:
    """The message has the seconds and the remedy, also after it crosses a process boundary."""
    error = pickle.loads(pickle.dumps(BuildTimeout(1.5)))  # noqa: S301 - our own bytes
    assert "1.5 s" in str(error)


@pytest.fixture
async def alone(
    make_settings: MakeSettings, registry: Registry, versions: LocalBlobs, engine: FakeEngine
) -> AsyncIterator[Gateway]:
    """A gateway with a worker process of its own."""
    settings = make_settings()
    made = Gateway(settings, registry=registry, versions=versions, bases=serving(settings, engine))
    yield made
    await made.builder.stop()


async def test_stopping_drops_the_build_under_way(
    alone: Gateway, session_workers: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stop` does not wait for a merge, leaves nothing of it, and ends no other pool's workers."""
    monkeypatch.setattr(worker, "build", faulty_builds.linger)
    building = asyncio.create_task(alone.builder.build(recipe(alone)))
    workspaces = alone.settings.artifacts / ".workspaces"
    async with asyncio.timeout(60):  # starting a worker imports torch
        while not list(workspaces.glob("*/started")):
            await asyncio.sleep(0.02)
    async with asyncio.timeout(3):
        await alone.builder.stop()
    assert (await asyncio.gather(building, return_exceptions=True))[0].__class__ is not str
    await asyncio.sleep(0.2)
    assert [] == left_over(alone)
    await asyncio.wrap_future(session_workers.submit(worker.warm))


@pytest.mark.parametrize("turns", range(6))
async def test_a_build_without_callers_is_not_joined(gateway: Gateway, turns: int) -> None:
    """A request that arrives while the last waiter of its recipe leaves is still answered."""
    first = asyncio.create_task(gateway.builder.build(recipe(gateway, "cat(tref, krun)")))
    asked = recipe(gateway)
    leaving = asyncio.create_task(gateway.builder.build(asked))
    for _ in range(4):
        await asyncio.sleep(0)
    assert not first.done()
    leaving.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    assert await gateway.builder.build(asked) in gateway.artifacts.digests()
    await first


async def test_a_queued_build_without_callers_is_dropped(gateway: Gateway) -> None:
    """A queued build without waiters never starts."""
    first = asyncio.create_task(gateway.builder.build(recipe(gateway, "cat(tref, krun)")))
    leaving = asyncio.create_task(gateway.builder.build(recipe(gateway)))
    await asyncio.sleep(0)
    leaving.cancel()
    digest = await first
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await gateway.builder.build(recipe(gateway, "cat(krun, tref)"))
    assert merges(gateway) == 2
    assert digest in gateway.artifacts.digests()


async def test_more_builds_than_the_queue_holds_are_refused(make_gateway: MakeGateway) -> None:
    """The queue is bounded: a refused build can be retried, and queued ones are served."""
    gateway = make_gateway(merge_queue=2)
    asked = [recipe(gateway, f"cat({n}*zorp, blim)") for n in (1, 2, 3)]
    found = await asyncio.gather(
        *(gateway.builder.build(one) for one in asked), return_exceptions=True
    )
    assert ["str", "str", "BuildQueueFull"] == [type(one).__name__ for one in found]
    assert isinstance(await gateway.builder.build(asked[2]), str)


async def test_a_flood_of_one_key_delays_no_other(make_gateway: MakeGateway) -> None:
    """A key that fills its share of the queue is refused more, and another's build is next."""
    gateway = make_gateway(merge_queue_share=6)
    greedy, other = Caller("a", "chat", "greedy"), Caller("b", "chat", "other")
    many = [recipe(gateway, f"cat({n}*zorp, blim)") for n in range(1, 10)]
    flood = [asyncio.create_task(gateway.builder.build(one, caller=greedy)) for one in many]
    await asyncio.sleep(0)
    await gateway.builder.build(recipe(gateway, "cat(tref, krun)"), caller=other)
    answered = sum(task.done() and task.exception() is None for task in flood)
    assert answered <= 2
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert 2 == sum(isinstance(result, TooManyBuilds) for result in results)
