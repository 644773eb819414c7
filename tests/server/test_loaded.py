"""What an engine has in memory, without an engine."""

import pytest

from server.engine.loaded import Loaded


class Client:
    """vLLM's client: counts what it is asked."""

    def __init__(self) -> None:
        self.loaded = {1}
        self.worker_asked = self.core_asked = 0

    async def list_loras(self) -> set[int]:
        """Ask the worker."""
        self.worker_asked += 1
        return set(self.loaded)

    async def is_sleeping(self) -> bool:
        """Ask the core."""
        self.core_asked += 1
        return False


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock."""
    return Clock()


@pytest.fixture
def client() -> Client:
    """An engine with one adapter."""
    return Client()


@pytest.fixture
def loaded(clock: Clock) -> Loaded:
    """What is remembered, long after the last change."""
    loaded = Loaded(clock)
    clock.now += 10
    return loaded


async def test_an_idle_worker_is_left_alone(loaded: Loaded, client: Client, clock: Clock) -> None:
    """While no request runs, looks pass through the core and do not ask the worker again."""
    for _ in range(20):
        assert {1} == await loaded.numbers(client)
        clock.now += 1
    assert (1, 19) == (client.worker_asked, client.core_asked)


async def test_an_old_answer_is_not_believed(loaded: Loaded, client: Client, clock: Clock) -> None:
    """The worker is asked again after half a minute, so that one that hangs is found."""
    await loaded.numbers(client)
    clock.now += 31
    await loaded.numbers(client)
    assert 2 == client.worker_asked


async def test_every_look_beside_a_request_asks(
    loaded: Loaded, client: Client, clock: Clock
) -> None:
    """While a request runs that may load an adapter, and two seconds after it, looks see it."""
    await loaded.numbers(client)
    with loaded.changing():
        client.loaded = {1, 2}
        assert {1, 2} == await loaded.numbers(client)
    client.loaded = {2}
    clock.now += 1
    assert {2} == await loaded.numbers(client)
    client.loaded = {2, 3}
    clock.now += 3
    assert {2, 3} == await loaded.numbers(client)
    assert 4 == client.worker_asked


async def test_a_request_during_a_look_makes_it_stale(
    loaded: Loaded, client: Client, clock: Clock
) -> None:
    """A request that begins and ends while the worker answers is seen by the next look."""

    async def slow() -> set[int]:
        found = set(client.loaded)
        with loaded.changing():
            clock.now += 1
            client.loaded = {7}
        return found

    client.list_loras, ask = slow, client.list_loras  # type: ignore[method-assign]
    assert {1} == await loaded.numbers(client)
    client.list_loras = ask  # type: ignore[method-assign]
    clock.now += 5
    assert {7} == await loaded.numbers(client)
