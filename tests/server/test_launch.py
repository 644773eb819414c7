"""The supervisor over a stub program: start, death, hanging, restart, failed start, and no process
left behind.
"""

import asyncio
import os
import signal

import pytest

from server.engine.link import Endpoint
from server.engine.proof import EngineStartFailed
from server.engine.protocol import EngineUnavailable
from tests.server.conftest import MakeSettings
from tests.server.launching import Stub, alive, is_up, until


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


@pytest.mark.faults
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


@pytest.mark.faults
async def test_a_hung_engine_is_replaced(stub: Stub) -> None:
    """An engine whose core does not answer is ended and started again within the misses that the
    settings allow, though its /health stays 200; what is in flight learns of it at once."""
    supervisor = stub.supervisor()
    await supervisor.start()
    try:
        outage = supervisor.outage.future()
        stub.make_sick("hung")
        async with asyncio.timeout(3 * 0.3 + 1):
            lost = await outage
        assert "does not answer within 0.3 s" in str(lost)
        assert not is_up(supervisor)
        stub.heal()
        await until(lambda: is_up(supervisor))
        assert 2 == supervisor.generation
        assert not any(alive(pid) for pid in stub.lives()[0])
    finally:
        await supervisor.stop()


async def test_one_late_answer_is_no_loss(stub: Stub) -> None:
    """An engine that misses fewer probes in a row than the settings allow keeps running."""
    supervisor = stub.supervisor()
    await supervisor.start()
    try:
        stub.make_sick("hung")
        await asyncio.sleep(0.4)  # one probe and a half
        stub.heal()
        await asyncio.sleep(0.8)
        assert (True, 1) == (is_up(supervisor), supervisor.generation)
    finally:
        await supervisor.stop()


async def test_a_proof_that_takes_for_ever_is_a_failed_start(
    stub: Stub, make_settings: MakeSettings
) -> None:
    """An engine that hangs in its self-test is ended when its start may take no longer."""
    stub._settings = make_settings(engine_start_seconds=2, engine_probe_seconds=0.3)

    async def prove(_endpoint: Endpoint) -> None:
        await asyncio.sleep(60)

    with pytest.raises(EngineStartFailed, match="not proven within 2 s"):
        await stub.supervisor(prove).start()
    await until(lambda: not stub.survivors(), 5)


async def test_an_engine_s_log_is_kept_and_is_the_owner_s(stub: Stub) -> None:
    """All that the engine writes reaches its log, which only its owner can read."""
    stub.mode = "chatters"
    supervisor = stub.supervisor()
    await supervisor.start()
    path = stub._folder / "logs" / "engine.log"
    try:
        await until(lambda: "line 4999 " in path.read_text())
        assert 5001 == len(path.read_text().splitlines())
        assert 0o600 == path.stat().st_mode & 0o777
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
