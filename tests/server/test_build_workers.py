"""Two worker processes with little memory: what one build takes or breaks costs no other build."""

import asyncio
import resource
from collections.abc import Iterator

import pytest

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server.artifacts import build, worker
from server.artifacts.build import BuildFailed
from server.artifacts.worker import BuildTooLarge
from server.artifacts.workers import Workers
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server import faulty_builds
from tests.server.conftest import MakeSettings
from tests.server.test_build import left_over, recipe
from tests.serving import serving


@pytest.fixture(scope="module")
def pair() -> Iterator[Workers]:
    """Two workers for the tests of this file: starting one imports torch."""
    workers = Workers(2, 64 * 2**20)
    yield workers
    asyncio.run(workers.stop())


@pytest.fixture
def gateway(
    pair: Workers, make_settings: MakeSettings, registry: Registry, versions: LocalBlobs,
    engine: FakeEngine,
) -> Gateway:  # fmt: skip
    """A gateway that builds with the pair."""
    settings = make_settings(merge_workers=2)
    made = Gateway(settings, registry=registry, versions=versions, bases=serving(settings, engine))
    made.builder._workers = pair
    return made


async def test_a_build_that_takes_too_much_memory_is_refused(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is BuildTooLarge, leaves nothing, is not tried again, and its worker builds on."""
    asked = recipe(gateway)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "build", faulty_builds.hoard)
        with pytest.raises(BuildTooLarge, match="WEFT_MERGE_MAX_BYTES"):
            await gateway.builder.build(asked)
    assert [] == left_over(gateway)
    with pytest.raises(BuildTooLarge):
        await gateway.builder.build(asked)
    other = await gateway.builder.build(recipe(gateway, "cat(tref, krun)"))
    assert other in gateway.artifacts.digests()


async def test_a_worker_is_limited_and_the_first_to_go(gateway: Gateway, pair: Workers) -> None:
    """Its addresses are bounded for good, and the system ends it before engine and gateway."""
    addresses, score = await pair.run(faulty_builds.limits, 60)
    assert addresses != resource.RLIM_INFINITY
    assert 800 == score


async def test_a_build_that_loses_a_process_is_tried_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The death of a merge's process is not the recipe's fault; the next try succeeds, in
    processes of its own within the worker's limits."""
    monkeypatch.setattr(worker, "build", faulty_builds.lose_a_process)
    digest = await gateway.builder.build(recipe(gateway, "linear(tref, krun)"))
    assert digest in gateway.artifacts.digests()
    assert [] == left_over(gateway)


@pytest.mark.faults
async def test_a_worker_that_dies_fails_its_build_and_no_other(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its build is BuildFailed and leaves nothing; the build beside it goes on to its end."""
    monkeypatch.setattr(build, "_ATTEMPTS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "build", faulty_builds.die_or_wait)
        beside = asyncio.create_task(gateway.builder.build(recipe(gateway, "lego(zorp, blim)")))
        workspaces = gateway.settings.artifacts / ".workspaces"
        async with asyncio.timeout(60):
            while not list(workspaces.glob("*/started")):
                await asyncio.sleep(0.02)
        with pytest.raises(BuildFailed, match="send the request again"):
            await gateway.builder.build(recipe(gateway))
    (workspaces / "go").touch()
    assert await beside in gateway.artifacts.digests()
    assert ["go"] == left_over(gateway)


@pytest.mark.faults
async def test_a_build_whose_worker_dies_is_tried_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The death of a worker is the fault of few builds, and its successor finishes this one."""
    monkeypatch.setattr(worker, "build", faulty_builds.die_once)
    digest = await gateway.builder.build(recipe(gateway))
    assert digest in gateway.artifacts.digests()
    assert [] == left_over(gateway)
