"""A started engine is given the adapters that requests will likely ask for."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

import pytest

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server import warmer
from server.engine.fake import FakeEngine
from server.warmer import Warmer
from tests.server.conftest import MakeGateway

DigestOf = Callable[[str], str]


@pytest.fixture(autouse=True)
def released(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """`live` in place of `prod`, which every demo adapter has: of zorp, and of krun before."""
    monkeypatch.setattr(warmer, "_ALIAS", "live")
    monkeypatch.setattr(warmer, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(warmer, "_POLL_SECONDS", 0.01)
    for name in ("krun", "zorp"):
        registry.versions.set_alias(name, "live", 1, actor="local")


async def test_released_adapters_are_warmed_and_then_those_used_last(
    make_gateway: MakeGateway, engine: FakeEngine, versions: LocalBlobs, digest_of: DigestOf,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Aliases come first, then the last used, as many as settings say; one that fails is a line in
    the log, warming is no use, and nothing is warmed where the setting is 0."""
    gateway = make_gateway(warm_artifacts=3)
    for seconds, name in enumerate(("tref", "blim", "krun")):
        gateway.artifacts.stage(digest_of(name), versions)
        os.utime(gateway.settings.artifacts / digest_of(name), (seconds, seconds))
    engine.refuse[digest_of("krun")] = "too large"
    await Warmer(gateway).warm()
    assert [digest_of(name) for name in ("zorp", "blim", "tref")] == engine.loads
    assert "too large" in caplog.text
    assert 1 == gateway.artifacts.used_at(digest_of("blim"))
    await asyncio.wait_for(Warmer(make_gateway(warm_artifacts=0)).run(), 1)


async def test_no_request_waits_for_warming(
    make_gateway: MakeGateway, engine: FakeEngine, digest_of: DigestOf
) -> None:
    """Nothing is loaded while a request uses an adapter, nor once requests have filled the
    engine; a restarted engine is warmed again."""
    gateway = make_gateway(warm_artifacts=1)
    warming = asyncio.create_task(Warmer(gateway).run())
    async with gateway.leases.hold(digest_of("blim")):
        await asyncio.sleep(0.05)
        assert [] == engine.loads
        await gateway.provider.load(digest_of("blim"), engine)
    await asyncio.sleep(0.05)
    assert [digest_of("blim")] == engine.loads
    engine.restart()
    async with asyncio.timeout(5):
        while len(engine.loads) < 2:
            await asyncio.sleep(0.01)
    assert digest_of("zorp") == engine.loads[1]
    warming.cancel()
    with suppress(asyncio.CancelledError):
        await warming
