"""The watch of an engine that is started elsewhere, over a stub program."""

import asyncio

import pytest

from server.engine import process
from server.engine.link import Endpoint
from server.engine.proof import EngineStartFailed
from server.engine.protocol import EngineUnavailable
from tests.server.conftest import MakeSettings
from tests.server.launching import Stub, is_up, until


async def test_a_remote_engine_is_up_while_it_answers(stub: Stub) -> None:
    """A remote engine is proven and watched, and gets a new generation after an outage."""
    supervisor = stub.supervisor()
    await supervisor.start()
    far = stub.remote(supervisor.endpoint())
    try:
        await far.start(5)
        assert (supervisor.endpoint(), 1) == (far.endpoint(), far.generation)
        await supervisor.stop()
        await until(lambda: not is_up(far))
    finally:
        await far.stop()
        await supervisor.stop()


async def test_a_remote_engine_that_is_not_there_is_a_failed_start(stub: Stub) -> None:
    """The error names the address."""
    far = stub.remote(Endpoint("http://127.0.0.1:9"))
    with pytest.raises(EngineStartFailed, match=r"127\.0\.0\.1:9"):
        await far.start(0.2)


async def test_a_remote_engine_comes_back_proven(stub: Stub, make_settings: MakeSettings) -> None:
    """A remote engine is proven again after an outage, as a new generation."""
    proofs = 0

    async def prove(_endpoint: Endpoint) -> None:
        nonlocal proofs
        proofs += 1

    port = process.free_port("127.0.0.1")
    stub._settings = make_settings(engine_start_seconds=15, engine_port=port)
    first = stub.supervisor()
    await first.start()
    far = stub.remote(Endpoint(f"http://127.0.0.1:{port}"), prove)
    second = stub.supervisor()
    try:
        await far.start(5)
        await first.stop()
        await until(lambda: not is_up(far))
        await second.start()
        await until(lambda: is_up(far))
        assert (2, 2) == (proofs, far.generation)
    finally:
        await far.stop()
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
    far = stub.remote(supervisor.endpoint(), prove)
    try:
        with pytest.raises(EngineStartFailed, match="wrong key"):
            async with asyncio.timeout(5):
                await far.start(60)
        assert proofs == 1
    finally:
        await far.stop()
        await supervisor.stop()


async def test_a_hung_remote_engine_is_unavailable_until_it_answers(stub: Stub) -> None:
    """weft does not restart a remote engine: it takes no requests while its core hangs, ends those
    in flight, and is proven again when it answers."""
    supervisor = stub.supervisor()
    await supervisor.start()
    far = stub.remote(supervisor.endpoint())
    await far.start(5)
    await supervisor.stop()
    try:
        with pytest.raises(EngineUnavailable, match="lost"):
            raise await asyncio.wait_for(far.outage.future(), 5)
        assert not is_up(far)
    finally:
        await far.stop()


@pytest.mark.parametrize(("status", "advice"), [(401, "WEFT_ENGINE_KEY"), (404, "VLLM_PLUGINS")])
async def test_a_remote_engine_that_is_set_up_wrong_fails_the_start_at_once(
    stub: Stub, status: int, advice: str
) -> None:
    """A wrong key and a missing plug-in are told with what to do, without the self-test too."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(EngineStartFailed, match=advice):
        await stub.remote(Endpoint(f"http://127.0.0.1:{port}")).start(60)
    server.close()
