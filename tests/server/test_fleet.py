"""Several engines behind one gateway: which one answers, and what a lost one means to clients."""

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient

from server.engine.fake import FakeEngine, FakeResponse
from server.engine.fleet import Fleet
from server.engine.protocol import EngineBusy, EngineUnavailable
from server.gateway import Gateway
from server.sse import EVENT_STREAM
from tests.server.asgi import CHAT
from tests.server.conftest import BASE

DIGESTS = [f"{n:064x}" for n in range(20)]


@pytest.fixture
def other(gateway: Gateway) -> FakeEngine:
    """A second engine of the gateway."""
    made = FakeEngine(BASE, "other")
    gateway.bases.default.fleet.join(made)
    return made


def asked(*engines: FakeEngine) -> list[int]:
    """Return the number of requests that each engine has got."""
    return [len(engine.bodies) for engine in engines]


def engines_of(fleet: Fleet, digests: list[str | None]) -> list[str]:
    """Return the engine that each request gets while all of them last."""
    contexts = [fleet.at(digest) for digest in digests]
    names = [context.__enter__().name for context in contexts]
    for context in contexts:
        context.__exit__(None, None, None)
    return names


async def test_an_adapter_stays_at_its_home(
    client: AsyncClient, engine: FakeEngine, other: FakeEngine
) -> None:
    """Ten requests for an adapter, one after another, are one load on one engine."""
    for _ in range(10):
        assert (await client.post(CHAT, json={"model": "zorp"})).is_success
    assert [0, 10] == sorted(asked(engine, other))
    assert 1 == len(engine.loads) + len(other.loads)


def test_requests_for_the_base_spread() -> None:
    """Requests for the base go to the least busy engine, whichever that is."""
    fleet = Fleet([FakeEngine(BASE, name) for name in "abc"])
    assert {"a": 3, "b": 3, "c": 3} == {
        name: engines_of(fleet, [None] * 9).count(name) for name in "abc"
    }


def test_a_hot_adapter_spreads_over_the_engines() -> None:
    """Many requests at once for one adapter take a second engine, one at a time only its home."""
    fleet = Fleet([FakeEngine(BASE, name) for name in "abc"])
    assert {"a", "b", "c"} == set(engines_of(fleet, [DIGESTS[0]] * 12))
    assert 1 == len({engines_of(fleet, [DIGESTS[0]])[0] for _ in range(12)})


def test_an_adapter_that_would_wait_for_a_slot_goes_elsewhere() -> None:
    """Where every slot of an engine runs another adapter, the next adapter gets another engine."""
    fleet = Fleet([FakeEngine(BASE, "a"), FakeEngine(BASE, "b")], slots=1)
    assert ["a", "b"] == sorted(engines_of(fleet, [DIGESTS[0], DIGESTS[1]]))


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_lost_before_the_first_byte_costs_no_answer(
    client: AsyncClient, engine: FakeEngine, other: FakeEngine, stream: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A request whose engine is lost before the first byte is answered by another engine, once;
    the lost one then gets none for a while."""
    lost, well = (engine, other) if await is_home(client, engine) else (other, engine)
    headers = {"content-type": EVENT_STREAM if stream else "application/json"}
    broken = FakeResponse(200, headers, [], True)
    monkeypatch.setattr(lost, "_answer", lambda *_: broken)
    monkeypatch.setattr(broken, "begin", broken.read)
    before = asked(lost, well)
    for _ in range(3):
        answer = await client.post(CHAT, json={"model": "zorp", "stream": stream})
        assert answer.is_success
        assert "answered" in answer.text
        assert "error" not in answer.text
    assert [1, 3] == [now - then for now, then in zip(asked(lost, well), before, strict=True)]


async def test_an_engine_that_loads_nothing_costs_no_answer(
    client: AsyncClient, engine: FakeEngine, other: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that is lost while it loads an adapter is replaced too."""
    lost = engine if await is_home(client, engine) else other
    lost.restart()

    async def refuse(_digest: str) -> None:
        raise EngineUnavailable("no connection")

    monkeypatch.setattr(lost, "load", refuse)
    for model in ("zorp", "zorp@1", "cat(zorp, blim)"):
        assert (await client.post(CHAT, json={"model": model})).is_success


async def test_all_engines_lost_is_one_error_after_two_tries(
    client: AsyncClient, engine: FakeEngine, other: FakeEngine
) -> None:
    """When a second engine is lost too, the client is told: no request goes round for ever."""
    third = FakeEngine(BASE, "third")
    for each in (engine, other, third):
        each.breaks = True
    answer = await client.post(CHAT, json={"model": BASE})
    assert (503, 2) == (answer.status_code, sum(asked(engine, other, third)))


async def test_one_engine_is_asked_once(client: AsyncClient, engine: FakeEngine) -> None:
    """Without another engine a lost request is not sent again: nobody else can answer it."""
    engine.breaks = True
    assert 503 == (await client.post(CHAT, json={"model": BASE})).status_code
    assert [1] == asked(engine)


async def test_an_engine_that_leaves_ends_its_answers(engine: FakeEngine) -> None:
    """An engine that leaves gets no request any more; `leave` returns once its last one ends."""
    fleet = Fleet([engine, FakeEngine(BASE, "other")])
    with fleet.at(None) as kept:
        leaving = asyncio.create_task(fleet.leave(kept))
        await asyncio.sleep(0.3)
        assert not leaving.done()
        assert kept.name not in engines_of(fleet, [None] * 4)
    await asyncio.wait_for(leaving, 2)


async def test_a_removal_passes_over_a_lost_engine() -> None:
    """An artifact is removed from every engine that can be asked; without any, nothing is."""
    first, second = FakeEngine(BASE, "first"), FakeEngine(BASE, "second")
    fleet = Fleet([first, second])
    for engine in (first, second):
        await engine.load(DIGESTS[0])
    second.up = False
    await fleet.remove(DIGESTS[0])
    assert (set(), {DIGESTS[0]}) == (first.loaded, second.loaded)
    first.up = False
    with pytest.raises(EngineUnavailable):
        await fleet.remove(DIGESTS[0])


async def test_an_engine_that_uses_an_artifact_keeps_it() -> None:
    """A removal that one engine refuses is refused as a whole: the files must stay."""
    first, second = FakeEngine(BASE, "first"), FakeEngine(BASE, "second")
    second.running[DIGESTS[0]] = 1
    with pytest.raises(EngineBusy):
        await Fleet([first, second]).remove(DIGESTS[0])


async def test_what_engines_really_hold_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that is in another engine's memory, loaded by whomever, is answered there."""
    first, second = FakeEngine(BASE, "first"), FakeEngine(BASE, "second")
    fleet = Fleet([first, second])
    home = engines_of(fleet, [DIGESTS[0]])[0]
    away = second if home == "first" else first
    await away.load(DIGESTS[0])
    monkeypatch.setattr("server.engine.fleet._NEWS_SECONDS", 0.01)
    informing = asyncio.create_task(fleet.keep_informed())
    await asyncio.sleep(0.05)
    informing.cancel()
    assert [away.name] == engines_of(fleet, [DIGESTS[0]])


async def is_home(client: AsyncClient, engine: FakeEngine) -> bool:
    """Ask for `zorp` and return whether `engine` answered."""
    before = len(engine.bodies)
    answer: Any = await client.post(CHAT, json={"model": "zorp"})
    assert answer.is_success
    return len(engine.bodies) > before
