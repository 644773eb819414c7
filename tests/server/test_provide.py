"""Providing a target: a digest that is leased, on disk and in the engine."""

import asyncio
import gc
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from merge.peft_format import WEIGHTS_NAME
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.errors import BlobCorrupt
from server.artifacts.leases import LeaseBusy
from server.artifacts.provide import ArtifactGone
from server.compose.resolve import Planned, Stored
from server.engine.fake import FakeEngine
from server.engine.protocol import EngineRefused, EngineUnavailable
from server.gateway import Gateway
from server.telemetry.metrics import Timings
from tests.server.test_build import merges, recipe

DigestOf = Callable[[str], str]


def target_of(gateway: Gateway, text: str) -> Stored | Planned:
    """Resolve a `model` field that is not the base."""
    target = gateway.resolver.resolve(text)
    assert isinstance(target, Stored | Planned)
    return target


async def provide(gateway: Gateway, target: Stored | Planned) -> str:
    """Provide `target`, release it, and return its digest."""
    async with gateway.provider.provide(target, Timings()) as provided:
        return provided.digest


async def test_a_hundred_requests_are_one_merge_and_one_load(
    gateway: Gateway, engine: FakeEngine
) -> None:
    """Concurrent requests for a new composition share one merge and one load."""
    target = target_of(gateway, "cat(zorp, blim)")
    digests = await asyncio.gather(*(provide(gateway, target) for _ in range(100)))
    assert [digests[0]] == engine.loads
    assert (1, 1.0) == (len(set(digests)), merges(gateway))


async def test_what_is_provided_is_leased_and_let_go(gateway: Gateway) -> None:
    """The digest is leased exactly while the context is open."""
    target = target_of(gateway, "zorp")
    async with gateway.provider.provide(target, Timings()):
        assert gateway.leases.total() == 1
    assert gateway.leases.total() == 0


async def test_a_second_request_neither_merges_nor_loads(
    gateway: Gateway, engine: FakeEngine
) -> None:
    """An artifact on disk and in the engine is reused and counted as a hit."""
    target = target_of(gateway, "cat(zorp, blim)")
    assert await provide(gateway, target) == await provide(gateway, target)
    assert (1, 1.0) == (len(engine.loads), merges(gateway))
    assert gateway.metrics.registry.get_sample_value("weft_merge_hits_total") == 1.0


async def test_a_restarted_engine_is_loaded_again(gateway: Gateway, engine: FakeEngine) -> None:
    """A restarted engine gets the adapter again from the existing files."""
    target = target_of(gateway, "cat(zorp, blim)")
    digest = await provide(gateway, target)
    engine.restart()
    await provide(gateway, target)
    assert ([digest, digest], 1.0) == (engine.loads, merges(gateway))


@pytest.mark.parametrize("model", ["zorp", "cat(zorp, blim)"])
async def test_evicted_files_are_brought_back(
    gateway: Gateway, engine: FakeEngine, model: str
) -> None:
    """A version is staged again and a composition merged again, under the same digest."""
    target = target_of(gateway, model)
    digest = await provide(gateway, target)
    await gateway.evictor.remove(digest)
    assert not gateway.artifacts.has(digest)
    assert digest == await provide(gateway, target)
    assert [digest, digest] == engine.loads


async def test_an_artifact_s_digest_is_merged_again(gateway: Gateway) -> None:
    """The digest of an evicted artifact restores the same bytes from its recipe."""
    digest = await provide(gateway, target_of(gateway, "cat(zorp, blim)"))
    await gateway.evictor.remove(digest)
    target = target_of(gateway, digest)
    assert isinstance(target, Stored)
    assert digest == await provide(gateway, target)


async def test_an_artifact_that_comes_out_otherwise_is_gone(gateway: Gateway) -> None:
    """A recipe that gives other bytes makes its digest gone, and the message says what to do."""
    planned = target_of(gateway, "cat(zorp, blim)")
    assert isinstance(planned, Planned)
    with pytest.raises(ArtifactGone, match="name the composition instead"):
        await provide(gateway, Stored("0" * 64, planned.base, planned.recipe))


@pytest.mark.faults
async def test_an_artifact_with_a_flipped_bit_is_merged_again(
    gateway: Gateway, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine refuses files that do not match their digest; they are then removed and made again
    from the recipe, so that the request is answered under the same digest."""
    load = engine.load

    async def strict(digest: str) -> None:
        try:
            gateway.artifacts.verify(digest)
        except BlobCorrupt as error:
            raise EngineRefused(digest, "the files do not match their digest") from error
        await load(digest)

    monkeypatch.setattr(engine, "load", strict)
    target = target_of(gateway, "cat(zorp, blim)")
    digest = await provide(gateway, target)
    engine.restart()
    weights = gateway.artifacts.path(digest) / WEIGHTS_NAME
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert [digest] * 3 == await asyncio.gather(*(provide(gateway, target) for _ in range(3)))
    gateway.artifacts.verify(digest)


async def test_files_removed_before_the_lease_are_built_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are checked under the lease, and missing ones are rebuilt."""
    hold, vanished = gateway.leases.hold, list[str]()

    @asynccontextmanager
    async def hold_late(digest: str) -> AsyncIterator[None]:
        if not vanished:
            vanished.append(digest)
            shutil.rmtree(gateway.artifacts.path(digest))
        async with hold(digest):
            yield

    monkeypatch.setattr(gateway.leases, "hold", hold_late)
    digest = await provide(gateway, target_of(gateway, "cat(zorp, blim)"))
    assert [digest] == vanished
    assert gateway.artifacts.has(digest)


async def test_a_load_is_covered_by_the_lease(
    gateway: Gateway, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files cannot be removed while the engine reads them."""
    load, outcomes = engine.load, list[str]()

    async def load_while_removing(digest: str) -> None:
        with pytest.raises(LeaseBusy):
            await gateway.evictor.remove(digest, wait_seconds=0)
        outcomes.append(digest)
        await load(digest)

    monkeypatch.setattr(engine, "load", load_while_removing)
    assert [await provide(gateway, target_of(gateway, "zorp"))] == outcomes


async def test_a_refusal_is_not_remembered(
    gateway: Gateway, engine: FakeEngine, digest_of: DigestOf
) -> None:
    """A failed load fails for all its waiters, and the next request tries again."""
    engine.refuse[digest_of("zorp")] = "no"
    target = target_of(gateway, "zorp")
    found = await asyncio.gather(
        *(provide(gateway, target) for _ in range(5)), return_exceptions=True
    )
    assert [EngineRefused] * 5 == [type(error) for error in found]
    assert gateway.leases.total() == 0
    engine.refuse.clear()
    assert digest_of("zorp") == await provide(gateway, target)


async def test_an_engine_away_leaves_no_lease(gateway: Gateway, engine: FakeEngine) -> None:
    """EngineUnavailable is raised, and the lease is released."""
    engine.up = False
    with pytest.raises(EngineUnavailable):
        await provide(gateway, target_of(gateway, "zorp"))
    assert gateway.leases.total() == 0


async def test_a_client_that_leaves_does_not_end_the_load_of_others(
    gateway: Gateway, engine: FakeEngine, versions: LocalBlobs
) -> None:
    """Cancelling one waiter of a load does not stop it for the others."""
    target = target_of(gateway, "zorp")
    gateway.artifacts.stage(target_digest(target), versions)
    first = asyncio.create_task(provide(gateway, target))
    while not gateway.leases.total():
        await asyncio.sleep(0)
    second = asyncio.create_task(provide(gateway, target))
    await asyncio.sleep(0)
    first.cancel()
    assert target_digest(target) == await second
    assert len(engine.loads) == 1


def target_digest(target: Stored | Planned) -> str:
    """Return the digest of a stored target."""
    assert isinstance(target, Stored)
    return target.digest


async def test_a_merge_is_loaded_while_it_is_recorded(
    gateway: Gateway, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine loads a merge before the registry has recorded it, its request is said to have
    taken a new slot, and merging and loading are timed separately."""
    record = gateway.registry.compositions.record_artifact

    def record_later(*args: Any, **options: Any) -> str:
        end = time.monotonic() + 5
        while not engine.loads and time.monotonic() < end:
            time.sleep(0.001)
        assert engine.loads
        return record(*args, **options)

    monkeypatch.setattr(gateway.registry.compositions, "record_artifact", record_later)
    timings = Timings()
    async with gateway.provider.provide(target_of(gateway, "cat(zorp, blim)"), timings) as made:
        assert ([made.digest], True) == (engine.loads, timings.new_slot)
    assert ["merge", "load"] == list(timings.seconds)
    assert timings.seconds["merge"] > timings.seconds["load"]


async def test_an_artifact_built_elsewhere_does_not_stand_in_the_way(
    gateway: Gateway, registry: Registry
) -> None:
    """A recipe whose recorded artifact is missing and not reproducible here is merged once and
    served from this machine's result.
    """
    target, asked = target_of(gateway, "cat(zorp, blim)"), recipe(gateway)
    registry.compositions.save_recipe(asked.canonical(), asked.digest(), asked.base, asked.lineage)
    registry.compositions.record_artifact(asked.digest(), "e" * 64, bytes=1, seconds=1.0, report={})
    digest = await provide(gateway, target)
    assert gateway.artifacts.has(digest)
    assert (digest, 1.0) == (await provide(gateway, target), merges(gateway))


async def test_a_load_that_fails_after_its_callers_left_is_no_fault(
    gateway: Gateway, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the engine is lost, requests end first and their load fails later: nothing is logged as
    an exception that was never retrieved, and the next request loads again."""
    unretrieved: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unretrieved.append(context))
    begun, lost = asyncio.Event(), asyncio.Event()

    async def load(_digest: str) -> None:
        begun.set()
        await lost.wait()
        raise EngineUnavailable("the engine is lost")

    target = target_of(gateway, "zorp")
    with monkeypatch.context() as patch:
        patch.setattr(engine, "load", load)
        caller = asyncio.create_task(provide(gateway, target))
        await begun.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        lost.set()
        while gateway.leases.total():
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    del caller  # its traceback refers to the load
    gc.collect()  # asyncio reports a task when it is collected

    assert [] == unretrieved
    assert await provide(gateway, target) in engine.loaded
