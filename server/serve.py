"""Starts and stops a gateway from its settings: database, base, engine, HTTP."""

import asyncio
import gc
import logging
import math
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TypeAlias

import uvicorn
from fastapi import FastAPI

from registry.types import Base
from server.app import create_app
from server.artifacts.canary_file import read_canaries
from server.artifacts.store import ArtifactStore
from server.base_model import ensure_base
from server.connections import limited_protocol
from server.engine.client import VllmEngine
from server.engine.fleet import Fleet
from server.engine.launch import Supervisor
from server.engine.link import Endpoint, Fixed
from server.engine.members import Listed
from server.engine.process import Progress
from server.engine.proof import Prove
from server.engine.recruit import Recruiter
from server.engine.selftest import self_test
from server.engine.turn import turn
from server.gateway import Gateway
from server.home import locked_home, open_registry
from server.preflight import bound_socket, check_model, check_reach
from server.settings import Settings
from server.telemetry.export import exported_spans
from server.warmer import Warmer

Ready: TypeAlias = Callable[[Callable[[], None]], Awaitable[None]]
_log = logging.getLogger("weft.server")
_OPEN = (
    "No key exists, so every user of this machine is an admin. To require keys: "
    "weft keys create NAME --role admin --all-namespaces"
)
_SHRINK_SECONDS = 10.0
# A crash left the workspaces that are older than any build can last.
_SWEEP_SECONDS = 3600.0
_SWITCH_SECONDS = 0.0005
# What answers that were cut off may take to send their last event.
_CUT_SECONDS = 5


async def serve(
    settings: Settings, *, ready: Ready | None = None, progress: Progress | None = None
) -> None:
    """Serve until the process receives a signal, or `ready` calls the function it receives.

    The port, the home and the model are checked before the engine starts, because that start takes
    a minute or more.

    Args:
        settings: the gateway's settings.
        ready: called when the gateway accepts requests, with the function that stops it.
        progress: called with the stage of the engine's start.

    Raises:
        PortTaken, HomeInUse, ModelUnusable, OpenToOthers, CanaryFileInvalid: raised before the
            engine starts.
        EngineStartFailed: the engine did not start.
        registry.errors.RegistryError: the database or the base cannot be used.
    """
    async with AsyncExitStack() as stack:
        bound = stack.enter_context(bound_socket(settings.host, settings.port))
        url = f"http://{settings.host}:{bound.getsockname()[1]}"
        stack.enter_context(locked_home(settings, url))
        check_model(settings)
        if settings.canary_file is not None:
            read_canaries(settings.canary_file)  # a bad file is told before the engine starts
        stack.enter_context(exported_spans(settings.otlp_endpoint))
        gateway = await _open(stack, settings, bound, progress)
        server = GatewayServer(create_app(gateway), gateway, ready)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, server.stop)
        await server.serve(sockets=[bound])


async def _open(
    stack: AsyncExitStack, settings: Settings, bound: socket.socket, progress: Progress | None
) -> Gateway:
    """Start everything behind the HTTP routes; `stack` stops it again."""
    registry, versions = open_registry(settings, statement_seconds=settings.statement_seconds)
    has_keys = bool(settings.api_keys) or registry.access.keys.live().any
    check_reach(bound, has_keys=has_keys)
    if not has_keys:
        _log.info(_OPEN)
    base = ensure_base(registry, settings)
    # Importing torch takes seconds, which would delay the first request for a composition.
    methods = asyncio.create_task(asyncio.to_thread(import_methods), name="import merge methods")
    fleet = await _connect(stack, settings, base, progress)
    await methods
    gateway = Gateway(settings, registry=registry, versions=versions, fleet=fleet, base=base.name)
    for store in (versions, gateway.artifacts):
        store.sweep(older_than_seconds=_SWEEP_SECONDS)
    await gateway.builder.start()
    stack.push_async_callback(gateway.builder.stop)
    gateway.storage.sweep(older_than_seconds=_SWEEP_SECONDS)
    gateway.jobs.start()
    stack.push_async_callback(gateway.jobs.stop)
    informing = asyncio.create_task(fleet.keep_informed(), name="residency")
    stack.push_async_callback(_end, informing)
    warming = asyncio.create_task(Warmer(gateway).run(), name="warming")
    stack.push_async_callback(_end, warming)
    counting = asyncio.create_task(gateway.meter.run(), name="usage")
    stack.push_async_callback(_end, counting)
    shrinking = asyncio.create_task(_keep_small(gateway), name="artifact budget")
    stack.callback(shrinking.cancel)
    return gateway


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def import_methods() -> None:
    """Import the merge methods, and torch with them."""
    from merge.methods import METHODS  # noqa: F401


async def _connect(
    stack: AsyncExitStack, settings: Settings, base: Base, progress: Progress | None
) -> Fleet:
    """Return the engines, at least one of which is up."""
    prove = _proof(settings, base)
    fleet = Fleet(slots=settings.max_loras)
    if settings.engine_url:
        key = settings.engine_key.get_secret_value() if settings.engine_key else None
        recruiter = Recruiter(Listed(settings.engine_url, key), fleet, settings, prove=prove)
        stack.push_async_callback(recruiter.stop)
        await recruiter.start(settings.engine_start_seconds)
        return fleet
    log_path = settings.home.resolve() / "engine.log"
    supervisor = Supervisor(settings, log_path=log_path, prove=prove, progress=progress)
    await supervisor.start()
    stack.push_async_callback(supervisor.stop)
    engine = VllmEngine(supervisor, idle_seconds=settings.stream_idle_seconds)
    stack.push_async_callback(engine.close)
    fleet.join(engine)
    return fleet


def _proof(settings: Settings, base: Base) -> Prove:
    """Return the test that an engine has to pass before it serves."""
    artifacts = ArtifactStore(settings.artifacts)
    settings.artifacts.mkdir(parents=True, exist_ok=True)

    async def prove(endpoint: Endpoint) -> None:
        if not settings.self_test:
            return
        engine = VllmEngine(Fixed(endpoint))
        try:
            async with turn(settings.artifacts, settings.engine_start_seconds / 2):
                await self_test(
                    engine, base=settings.served_base, shapes=base.shapes, artifacts=artifacts,
                    slots=settings.max_loras, seed=secrets.randbits(64),
                )  # fmt: skip
        finally:
            await engine.close()

    return prove


async def _keep_small(gateway: Gateway) -> None:
    while True:
        try:
            await gateway.evictor.shrink()
        except Exception:  # the next round must still run
            _log.exception("the artifact store was not reduced to its budget")
        await asyncio.sleep(_SHRINK_SECONDS)


class GatewayServer(uvicorn.Server):
    """A uvicorn server that calls `ready` when it listens, and ends answers with an error event."""

    def __init__(self, app: FastAPI, gateway: Gateway, ready: Ready | None) -> None:
        settings = gateway.settings
        # Threads that compute hold Python's lock for this long, and the loop, which gives it away
        # at every call of the system, waits as often.
        sys.setswitchinterval(_SWITCH_SECONDS)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,  # its lines have the format of all others
                access_log=False,
                timeout_graceful_shutdown=math.ceil(settings.drain_seconds) + _CUT_SECONDS,
                limit_concurrency=settings.max_connections,
                http=limited_protocol(
                    header_seconds=settings.header_seconds,
                    write_idle_seconds=settings.write_idle_seconds,
                ),
            )
        )
        self._stopping, self._drain_seconds = gateway.stopping, settings.drain_seconds
        self._call_when_ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then call `ready`."""
        await super().startup(sockets)
        # What exists now stays; going through torch's objects again would stop the loop for long.
        gc.collect()
        gc.freeze()
        gc.collect()  # Python waits with full collections until a quarter of the last one is new
        if self._call_when_ready is not None and not self.should_exit:
            await self._call_when_ready(self.stop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and end what is in progress."""
        await super().shutdown(sockets)
        gc.unfreeze()  # libraries look for what they have leaked when Python ends

    def stop(self) -> None:
        """Take no more requests, give answers their time to end, then return from `serve`.

        What is left after that time ends with an error. A second call ends everything at once.
        """
        if self.should_exit:
            self.force_exit = True
            self._stopping.cut()
            return
        self.should_exit = self._stopping.begun = True
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stopping.cut)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`: uvicorn's own handling ends the process right after its own
        shutdown, before the engine and the workers are stopped."""
        yield
