"""The supervisor over a stub program: start, death, restart, failed start, and no process left
behind.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from server.engine import launch
from server.engine.client import Endpoint
from server.engine.launch import EngineStartFailed, Remote, Supervisor
from server.engine.protocol import EngineUnavailable
from server.settings import Settings
from tests.server import stub_engine
from tests.server.conftest import MakeSettings

Prove = Callable[[Endpoint], Awaitable[None]]


class Stub:
    """Starts supervisors over the stub program; `mode` applies to the next start."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings, self.mode = folder, settings, "serves"
        self.supervisors: list[Supervisor] = []

    def command(self, _settings: Settings, port: int) -> list[str]:
        """Replace `engine_command`."""
        if self.mode == "missing":
            return [str(self._folder / "no-such-programme")]
        return [sys.executable, stub_engine.__file__, str(port), str(self.pid_file), self.mode]

    def supervisor(self, prove: Prove | None = None) -> Supervisor:
        """Return a supervisor that is not started."""
        log_path = self._folder / "logs" / "engine.log"
        made = Supervisor(self._settings, log_path=log_path, prove=prove or fit)
        self.supervisors.append(made)
        return made

    @property
    def pid_file(self) -> Path:
        """The file in which every run of the stub writes its own pid and its child's."""
        return self._folder / "pids"

    def lives(self) -> list[tuple[int, int]]:
        """Return (pid, child's pid) of every start so far."""
        lines = self.pid_file.read_text().splitlines() if self.pid_file.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def survivors(self) -> list[int]:
        """Return those of all these processes that still run."""
        return [pid for life in self.lives() for pid in life if alive(pid)]

    def make_sick(self) -> None:
        """Make the health check fail from now on."""
        Path(f"{self.pid_file}.sick").touch()


async def fit(_endpoint: Endpoint) -> None:
    """Accept any engine."""


def alive(pid: int) -> bool:
    """Return whether a process runs; an ended one that is not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(claim: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)


def is_up(link: Supervisor | Remote) -> bool:
    """Return whether the supervisor accepts requests."""
    try:
        link.endpoint()
    except EngineUnavailable:
        return False
    return True


@pytest.fixture
async def stub(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> Stub:
    """A stub in place of vLLM, and a supervisor with short timeouts."""
    made = Stub(tmp_path, make_settings(engine_start_seconds=15))
    monkeypatch.setattr(launch, "engine_command", made.command)
    monkeypatch.setattr(launch, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(launch, "_FIRST_BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(launch, "_HEALTH_FAILURES", 5)
    monkeypatch.setattr(launch, "_STOP_SECONDS", 2.0)
    return made


async def test_a_started_engine_is_proven_and_up(stub: Stub) -> None:
    """`start` returns when the engine answers and has been proven at that address."""
    proven: list[Endpoint] = []

    async def prove(endpoint: Endpoint) -> None:
        assert not is_up(supervisor)
        proven.append(endpoint)

    supervisor = stub.supervisor(prove)
    await supervisor.start()
    try:
        assert [supervisor.endpoint()] == proven
        assert proven[0].url.startswith("http://127.0.0.1:")
        assert proven[0].key
        assert proven[0].key not in repr(proven[0])
        assert supervisor.generation == 1
    finally:
        await supervisor.stop()


async def test_stopping_leaves_no_process(stub: Stub) -> None:
    """After `stop` the engine and its children have ended, and requests learn the reason."""
    supervisor = stub.supervisor()
    await supervisor.start()
    assert len(stub.survivors()) == 2
    await supervisor.stop()
    await until(lambda: not stub.survivors(), 5)
    with pytest.raises(EngineUnavailable, match="shutting down"):
        supervisor.endpoint()


async def test_a_dead_engine_is_started_again(stub: Stub) -> None:
    """A killed engine is replaced by a proven one of a new generation; requests meanwhile are
    told to retry.
    """
    supervisor = stub.supervisor()
    await supervisor.start()
    try:
        first = stub.lives()[0]
        os.kill(first[0], signal.SIGKILL)
        await until(lambda: not is_up(supervisor))
        with pytest.raises(EngineUnavailable, match="restarted") as caught:
            supervisor.endpoint()
        assert caught.value.retry_after_seconds > 0
        await until(lambda: is_up(supervisor))
        assert (2, 2) == (supervisor.generation, len(stub.lives()))
        assert not any(alive(pid) for pid in first)
    finally:
        await supervisor.stop()


async def test_an_engine_that_answers_no_health_check_is_replaced(stub: Stub) -> None:
    """A process without answers for too long is ended, even if it ignores SIGTERM."""
    stub.mode = "stubborn"
    supervisor = stub.supervisor()
    await supervisor.start()
    try:
        stub.make_sick()
        stub.mode = "exits"
        await until(lambda: not is_up(supervisor))
        await until(lambda: not stub.survivors())
    finally:
        await supervisor.stop()


async def test_an_engine_that_exits_at_start_shows_its_log(stub: Stub) -> None:
    """The error ends with the last lines of the log."""
    stub.mode = "exits"
    with pytest.raises(EngineStartFailed, match=r"exited at start:(.|\n)*no weights, no service"):
        await stub.supervisor().start()


async def test_an_engine_that_never_answers_is_given_up(
    stub: Stub, make_settings: MakeSettings
) -> None:
    """A start over its time fails with the log and leaves no process."""
    stub.mode, stub._settings = "hangs", make_settings(engine_start_seconds=1)
    with pytest.raises(EngineStartFailed, match=r"not ready after 1 s:(.|\n)*mode hangs"):
        await stub.supervisor().start()
    await until(lambda: len(stub.lives()) == 1 and not stub.survivors(), 5)


async def test_an_unfit_engine_is_not_served(stub: Stub) -> None:
    """The error has the self-test's reason, and no process is left."""

    async def prove(_endpoint: Endpoint) -> None:
        raise ArithmeticError("it mixes up adapters")

    supervisor = stub.supervisor(prove)
    with pytest.raises(EngineStartFailed, match="not fit: it mixes up adapters"):
        await supervisor.start()
    assert not is_up(supervisor)
    await until(lambda: not stub.survivors(), 5)


async def test_a_programme_that_is_missing_is_a_failed_start(stub: Stub) -> None:
    """A command that cannot be run is a failed start."""
    stub.mode = "missing"
    with pytest.raises(EngineStartFailed, match="no-such-programme"):
        await stub.supervisor().start()


@pytest.mark.parametrize("mode", ["exits", "missing"])
async def test_restarts_are_tried_until_one_works(stub: Stub, mode: str) -> None:
    """After a failed restart the supervisor tries the next one."""
    supervisor = stub.supervisor()
    await supervisor.start()
    try:
        stub.mode = mode
        os.kill(stub.lives()[0][0], signal.SIGKILL)
        await until(lambda: supervisor.generation >= 3)
        assert not is_up(supervisor)
        stub.mode = "serves"
        await until(lambda: is_up(supervisor))
    finally:
        await supervisor.stop()


async def test_stopping_while_a_hung_engine_is_ended_leaves_no_process(stub: Stub) -> None:
    """`stop` ends a stubborn engine even while the watch waits for it."""
    stub.mode = "stubborn"
    supervisor = stub.supervisor()
    await supervisor.start()
    stub.make_sick()
    await until(lambda: not is_up(supervisor))
    await asyncio.sleep(0.1)  # the watch has sent SIGTERM and waits
    await supervisor.stop()
    await until(lambda: not stub.survivors(), 5)


async def test_a_cancelled_start_leaves_no_process(stub: Stub) -> None:
    """Ctrl-C during a start ends the engine."""
    stub.mode = "hangs"
    starting = asyncio.create_task(stub.supervisor().start())
    await until(lambda: len(stub.lives()) == 1)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not stub.survivors(), 5)


async def test_a_remote_engine_is_up_while_it_answers(stub: Stub) -> None:
    """A remote engine is proven and watched, and gets a new generation after an outage."""
    supervisor = stub.supervisor()
    await supervisor.start()
    remote = Remote(supervisor.endpoint(), prove=fit)
    try:
        await remote.start(5)
        assert (supervisor.endpoint(), 1) == (remote.endpoint(), remote.generation)
        await supervisor.stop()
        await until(lambda: not is_up(remote))
    finally:
        await remote.stop()
        await supervisor.stop()


async def test_a_remote_engine_that_is_not_there_is_a_failed_start(stub: Stub) -> None:
    """The error names the address."""
    remote = Remote(Endpoint("http://127.0.0.1:9"), prove=fit)
    with pytest.raises(EngineStartFailed, match=r"127\.0\.0\.1:9"):
        await remote.start(0.2)


async def test_a_remote_engine_comes_back_proven(stub: Stub, make_settings: MakeSettings) -> None:
    """A remote engine is proven again after an outage, as a new generation."""
    proofs = 0

    async def prove(_endpoint: Endpoint) -> None:
        nonlocal proofs
        proofs += 1

    port = launch._free_port()
    stub._settings = make_settings(engine_start_seconds=15, engine_port=port)
    first = stub.supervisor()
    await first.start()
    remote = Remote(Endpoint(f"http://127.0.0.1:{port}"), prove=prove)
    second = stub.supervisor()
    try:
        await remote.start(5)
        await first.stop()
        await until(lambda: not is_up(remote))
        await second.start()
        await until(lambda: is_up(remote))
        assert (2, 2) == (proofs, remote.generation)
    finally:
        await remote.stop()
        await first.stop()
        await second.stop()


async def test_an_unfit_remote_engine_fails_the_start_at_once(
    stub: Stub,
) -> None:
    """An engine that answers and fails the self-test is not retried."""
    proofs = 0

    async def prove(_endpoint: Endpoint) -> None:
        nonlocal proofs
        proofs += 1
        raise ArithmeticError("wrong key")

    supervisor = stub.supervisor()
    await supervisor.start()
    remote = Remote(supervisor.endpoint(), prove=prove)
    try:
        with pytest.raises(EngineStartFailed, match="wrong key"):
            async with asyncio.timeout(5):
                await remote.start(60)
        assert proofs == 1
    finally:
        await remote.stop()
        await supervisor.stop()
