"""Removal: the safe order, what keeps an artifact, and the byte budget."""

import asyncio
import os
from collections.abc import Callable

import pytest

from server.artifacts.leases import LeaseBusy
from server.engine.fake import FakeEngine
from server.engine.protocol import EngineBusy, EngineUnavailable
from server.gateway import Gateway
from server.telemetry.metrics import Timings
from tests.server.test_provide import provide, target_of

DigestOf = Callable[[str], str]


async def staged(gateway: Gateway, *names: str) -> list[str]:
    """Provide adapters, each a second older in the store than the next; return their digests."""
    digests = [await provide(gateway, target_of(gateway, name)) for name in names]
    for age, digest in enumerate(digests):
        os.utime(gateway.artifacts.path(digest), (1000 + age, 1000 + age))
    return digests


async def test_a_removed_artifact_is_gone_everywhere(gateway: Gateway, engine: FakeEngine) -> None:
    """Neither engine nor disk has it, and the next request loads it again."""
    (digest,) = await staged(gateway, "zorp")
    await gateway.evictor.remove(digest)
    assert (set(), frozenset()) == (engine.loaded, gateway.artifacts.digests())
    await provide(gateway, target_of(gateway, "zorp"))
    assert {digest} == engine.loaded


async def test_the_engine_lets_go_before_the_files_go(
    gateway: Gateway, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During the removal from the engine no lease is held and the files still exist."""
    (digest,) = await staged(gateway, "zorp")
    remove, seen = engine.remove, list[bool]()

    async def watched(name: str) -> None:
        late = asyncio.create_task(provide(gateway, target_of(gateway, "zorp")))
        await asyncio.sleep(0.05)
        seen.append(gateway.artifacts.has(name) and gateway.leases.total() == 0)
        await remove(name)
        waiting.append(late)

    waiting: list[asyncio.Task[str]] = []
    monkeypatch.setattr(engine, "remove", watched)
    await gateway.evictor.remove(digest)
    assert [True] == seen
    assert [digest] == await asyncio.gather(*waiting)


@pytest.mark.parametrize("expected", [EngineUnavailable, EngineBusy])
async def test_an_engine_that_does_not_confirm_keeps_the_files(
    gateway: Gateway, engine: FakeEngine, expected: type[Exception]
) -> None:
    """If the engine is unavailable or busy, the artifact remains and still answers."""
    (digest,) = await staged(gateway, "zorp")
    if expected is EngineUnavailable:
        engine.up = False
    else:
        engine.running[digest] = 1
    with pytest.raises(expected):
        await gateway.evictor.remove(digest)
    assert gateway.artifacts.has(digest)
    engine.up = True
    assert digest == await provide(gateway, target_of(gateway, "zorp"))


async def test_a_leased_artifact_stays(gateway: Gateway, engine: FakeEngine) -> None:
    """A leased artifact is removed neither from the engine nor from the disk."""
    (digest,) = await staged(gateway, "zorp")
    async with gateway.leases.hold(digest):
        with pytest.raises(LeaseBusy):
            await gateway.evictor.remove(digest, wait_seconds=0)
    assert ({digest}, True) == (engine.loaded, gateway.artifacts.has(digest))


async def test_shrinking_removes_the_oldest_until_it_fits(gateway: Gateway) -> None:
    """The least recently used go first, no more of them than needed; the rest is the metric."""
    digests = await staged(gateway, "zorp", "blim", "tref")
    sizes = [gateway.artifacts.size(digest) for digest in digests]
    assert sizes[0] == await gateway.evictor.shrink(sum(sizes) - 1)
    assert frozenset(digests[1:]) == gateway.artifacts.digests()
    held = gateway.metrics.registry.get_sample_value("weft_artifact_bytes")
    assert sum(sizes[1:]) == held


async def test_shrinking_passes_over_what_is_in_use(gateway: Gateway, engine: FakeEngine) -> None:
    """Leased and running artifacts remain; the next oldest is removed instead."""
    digests = await staged(gateway, "zorp", "blim", "tref")
    engine.running[digests[1]] = 1
    async with gateway.leases.hold(digests[0]):
        await gateway.evictor.shrink(1)
    assert frozenset(digests[:2]) == gateway.artifacts.digests()


async def test_a_store_within_its_budget_is_left_alone(gateway: Gateway) -> None:
    """Nothing is removed while everything fits, by the settings' budget too."""
    digests = await staged(gateway, "zorp", "blim")
    assert (0, 0) == (
        await gateway.evictor.shrink(gateway.artifacts.nbytes()), await gateway.evictor.shrink(),
    )  # fmt: skip
    assert frozenset(digests) == gateway.artifacts.digests()


async def test_shrinking_with_the_engine_away_removes_nothing(
    gateway: Gateway, engine: FakeEngine
) -> None:
    """If the engine is unavailable, shrinking keeps every file and does not fail."""
    digests = await staged(gateway, "zorp", "blim")
    engine.up = False
    assert await gateway.evictor.shrink(1) == 0
    assert frozenset(digests) == gateway.artifacts.digests()


async def test_requests_and_removals_together_always_answer(
    gateway: Gateway, engine: FakeEngine
) -> None:
    """Under constant shrinking to nothing every request still gets a loaded, existing artifact."""
    stop = False

    async def shrink() -> None:
        while not stop:
            await gateway.evictor.shrink(1)
            await asyncio.sleep(0.002)

    async def use(name: str) -> None:
        async with gateway.provider.provide(target_of(gateway, name), Timings()) as provided:
            assert gateway.artifacts.has(provided.digest)
            assert provided.digest in engine.loaded
            await asyncio.sleep(0.001)

    shrinking = asyncio.create_task(shrink())
    for _ in range(8):
        await asyncio.gather(*(use(name) for name in ("zorp", "blim", "tref", "zorp")))
    stop = True
    await shrinking
    assert gateway.leases.total() == 0
