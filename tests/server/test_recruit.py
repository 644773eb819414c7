"""Engines that join a fleet and leave it, over stand-ins that answer probes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from server.engine.fleet import Fleet
from server.engine.link import Endpoint
from server.engine.proof import EngineStartFailed
from server.engine.recruit import Post, Recruiter
from tests.server.conftest import BASE, MakeSettings
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


class StandIn:
    """What stands in for an engine: it answers probes with `status`, and says what it serves.

    `announcement`: None as of an older plug-in, which has no such route.
    """

    def __init__(self, **announcement: object) -> None:
        self.status = 200
        self.announcement: dict[str, object] | None = {
            "models": [BASE], "max_lora_rank": 64, "max_loras": 4, "dtype": "float32",
        } | announcement  # fmt: skip
        self.endpoint = Endpoint("")

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        status, body = self.status, b""
        if path == b"/weft/engine":
            status = 404 if self.announcement is None else status
            body = json.dumps(self.announcement).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        writer.close()


async def started(stack: AsyncExitStack, engine: StandIn) -> StandIn:
    """Let a stand-in answer until the test ends."""
    server = await asyncio.start_server(engine.answer, "127.0.0.1", 0)
    stack.callback(server.close)
    engine.endpoint = Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    return engine


async def stand_in(stack: AsyncExitStack, status: int = 200) -> Endpoint:
    """Return where something answers every request with `status`, like an engine its probes."""
    engine = StandIn()
    engine.status = status
    return (await started(stack, engine)).endpoint


async def recruiting(
    stack: AsyncExitStack, make_settings: MakeSettings, members: Changing, fleet: Fleet
) -> Recruiter:
    """Return a recruiter that stops with the test."""
    settings = make_settings(engine_probe_seconds=10, engine_probe_misses=1)
    recruiter = Recruiter(members, [Post(settings, fleet, fit)], settings)
    stack.push_async_callback(recruiter.stop)
    return recruiter


async def recruiting_two(
    stack: AsyncExitStack, make_settings: MakeSettings, members: Changing
) -> tuple[Recruiter, Fleet, Fleet]:
    """Return a recruiter for two bases, `a` and `b`, and their fleets."""
    settings = make_settings(engine_probe_seconds=10, engine_probe_misses=1)
    fleets = Fleet(), Fleet()
    posts = [
        Post(settings.model_copy(update={"served_base": name}), fleet, fit)
        for name, fleet in zip("ab", fleets, strict=True)
    ]
    recruiter = Recruiter(members, posts, settings)
    stack.push_async_callback(recruiter.stop)
    return recruiter, *fleets


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


async def test_an_engine_joins_the_fleet_of_its_base(
    stack: AsyncExitStack, make_settings: MakeSettings
) -> None:
    """The base that an engine announces decides, by any of the engine's names for it."""
    first = await started(stack, StandIn(models=["a"]))
    second = await started(stack, StandIn(models=["also-b", "b"]))
    members = Changing(first.endpoint, second.endpoint)
    recruiter, of_a, of_b = await recruiting_two(stack, make_settings, members)
    await recruiter.start(5)
    await until(lambda: of_a.available() and of_b.available())
    assert {first.endpoint.url} == of_a.generations().keys()
    assert {second.endpoint.url} == of_b.generations().keys()


async def test_an_engine_may_return_with_another_base(
    stack: AsyncExitStack, make_settings: MakeSettings
) -> None:
    """Started again with another base it leaves the one fleet and joins the other."""
    engine = await started(stack, StandIn(models=["a"]))
    recruiter, of_a, of_b = await recruiting_two(stack, make_settings, Changing(engine.endpoint))
    await recruiter.start(5)
    engine.status = 503
    await until(lambda: not of_a.available())
    engine.status, engine.announcement = 200, StandIn(models=["b"]).announcement
    await until(of_b.available)
    assert [] == of_a.engines
    assert {engine.endpoint.url: 2} == of_b.generations()


@pytest.mark.parametrize(
    ("announcement", "message"),
    [
        ({"models": ["c"]}, "serves the base c, and this gateway serves a, b: start it with"),
        ({"models": ["a"], "max_lora_rank": 16}, "up to rank 16, and this gateway serves them up"),
        ({"models": ["a"], "max_lora_rank": 0}, "loads no adapters: start it with --enable-lora"),
        ({"models": 3}, "/weft/engine answers 200"),
        (None, "does not say which base it serves: update weft there"),
    ],
)
async def test_an_engine_that_does_not_fit_joins_nothing(
    stack: AsyncExitStack,
    make_settings: MakeSettings,
    announcement: dict[str, object] | None,
    message: str,
) -> None:
    """It is refused with the reason and the remedy, and joins once it is mended."""
    engine = StandIn(**(announcement or {}))
    if announcement is None:
        engine.announcement = None
    await started(stack, engine)
    recruiter, of_a, of_b = await recruiting_two(stack, make_settings, Changing(engine.endpoint))
    with pytest.raises(EngineStartFailed, match=message):
        await recruiter.start(60)
    assert [] == [*of_a.engines, *of_b.engines]
    engine.announcement = StandIn(models=["b"]).announcement
    await until(of_b.available)


async def test_an_older_plugin_serves_the_only_base(
    stack: AsyncExitStack, make_settings: MakeSettings
) -> None:
    """An engine that announces nothing is taken for the base of a gateway that has one."""
    engine = StandIn()
    engine.announcement = None
    members, fleet = Changing((await started(stack, engine)).endpoint), Fleet()
    await (await recruiting(stack, make_settings, members, fleet)).start(5)
    assert fleet.available()
