"""Engines that join a fleet and leave it, over stand-ins that answer probes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from server.engine.fleet import Fleet
from server.engine.link import Endpoint
from server.engine.proof import EngineStartFailed
from server.engine.recruit import Recruiter
from tests.server.conftest import MakeSettings
from tests.server.launching import fit, until


class Changing:
    """Members that a test changes; an OSError in their place is raised."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.now: frozenset[Endpoint] | OSError = frozenset(endpoints)

    async def endpoints(self) -> frozenset[Endpoint]:
        """See `Members`."""
        if isinstance(self.now, OSError):
            raise self.now
        return self.now


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncExitStack]:
    """What a test starts, and short pauses."""
    monkeypatch.setattr("server.engine.recruit._LOOK_SECONDS", 0.02)
    for name in ("_POLL_SECONDS", "_FIRST_BACKOFF_SECONDS"):
        monkeypatch.setattr(f"server.engine.remote.{name}", 0.02)
    async with AsyncExitStack() as stack:
        yield stack


async def stand_in(stack: AsyncExitStack, status: int = 200, port: int = 0) -> Endpoint:
    """Return where something answers every request with `status`, like an engine its probes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    stack.callback(server.close)
    return Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


async def recruiting(
    stack: AsyncExitStack, make_settings: MakeSettings, members: Changing, fleet: Fleet
) -> Recruiter:
    """Return a recruiter that stops with the test."""
    settings = make_settings(engine_probe_seconds=0.5, engine_probe_misses=1)
    recruiter = Recruiter(members, fleet, settings, prove=fit)
    stack.push_async_callback(recruiter.stop)
    return recruiter


async def test_engines_join_and_leave(stack: AsyncExitStack, make_settings: MakeSettings) -> None:
    """A new member takes requests once it answers; one that is gone takes none; and while the
    members cannot be told, all stay."""
    first, second = await stand_in(stack), await stand_in(stack)
    members, fleet = Changing(first), Fleet()
    await (await recruiting(stack, make_settings, members, fleet)).start(5)
    assert {first.url} == fleet.generations().keys()
    members.now = frozenset({first, second})
    await until(lambda: {first.url, second.url} == fleet.generations().keys())
    members.now = OSError("no such name")
    await asyncio.sleep(0.1)
    assert {first.url, second.url} == fleet.generations().keys()
    members.now = frozenset({second})
    await until(lambda: {second.url} == fleet.generations().keys())


async def test_an_engine_that_returns_has_another_generation(
    stack: AsyncExitStack, make_settings: MakeSettings
) -> None:
    """What it held before is forgotten: it may have been restarted meanwhile."""
    first, second = await stand_in(stack), await stand_in(stack)
    members, fleet = Changing(first, second), Fleet()
    await (await recruiting(stack, make_settings, members, fleet)).start(5)
    await until(lambda: len(fleet.generations()) == 2)
    members.now = frozenset({second})
    await until(lambda: len(fleet.generations()) == 1)
    members.now = frozenset({first, second})
    await until(lambda: {first.url: 2, second.url: 1} == fleet.generations())


async def test_one_engine_is_enough_to_start(
    stack: AsyncExitStack, make_settings: MakeSettings
) -> None:
    """A member that is set up wrong is in the log; it joins when it is mended."""
    well, wrong = await stand_in(stack), Endpoint("http://127.0.0.1:9")
    members, fleet = Changing(well, wrong), Fleet()
    await (await recruiting(stack, make_settings, members, fleet)).start(0.3)
    assert {well.url} == fleet.generations().keys()


async def test_no_engine_fails_the_start(
    stack: AsyncExitStack, make_settings: MakeSettings
) -> None:
    """When every member is set up wrong, the start fails at once and says why of each."""
    members = Changing(await stand_in(stack, 401), await stand_in(stack, 404))
    recruiter = await recruiting(stack, make_settings, members, Fleet())
    with pytest.raises(EngineStartFailed, match=r"(?s)WEFT_ENGINE_KEY.*VLLM_PLUGINS|VLLM_PLUGINS.*"
                       r"WEFT_ENGINE_KEY"):  # fmt: skip
        await recruiter.start(60)


async def test_members_that_cannot_be_told_fail_the_start(
    stack: AsyncExitStack, make_settings: MakeSettings
) -> None:
    """The error is that of the members."""
    members = Changing()
    members.now = OSError("the host of http://nowhere cannot be found")
    recruiter = await recruiting(stack, make_settings, members, Fleet())
    with pytest.raises(EngineStartFailed, match="nowhere"):
        await recruiter.start(0.1)
