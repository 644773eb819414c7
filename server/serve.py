"""Starts and stops a gateway from its settings: database, base, engine, HTTP."""

import asyncio
import gc
import logging
import math
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from typing import Protocol, TypeAlias

import uvicorn
from fastapi import FastAPI

from registry.service import Registry
from server.app import create_app
from server.artifacts.canary_file import read_canaries
from server.artifacts.copies import tend_copies
from server.artifacts.workers import BuildWorkers
from server.base_model import ensure_base
from server.connections import limited_protocol
from server.engine.client import VllmEngine
from server.engine.fit import proof_of
from server.engine.fleet import Fleet
from server.engine.launch import Supervisor
from server.engine.members import Listed
from server.engine.process import Progress
from server.engine.recruit import Post, Recruiter
from server.gateway import Gateway
from server.home import locked_home, open_registry
from server.jobs.launch import Launch
from server.preflight import bound_socket, check_model, check_reach
from server.served_bases import ServedBase, ServedBases
from server.settings import Settings
from server.telemetry.export import exported_spans
from server.warmer import Warmer

Ready: TypeAlias = Callable[[Callable[[], None]], Awaitable[None]]
Connect: TypeAlias = Callable[[Sequence[Post]], Awaitable[None]]


class CheckReach(Protocol):
    """Checks who can reach the gateway."""

    def __call__(self, *, has_keys: bool) -> None:
        """Raise OpenToOthers if others can, and there is no key."""


_log = logging.getLogger("weft.server")
_OPEN = (
    "No key exists, so every user of this machine is an admin. To require keys: "
    "weft keys create NAME --role admin --all-namespaces"
)
_SHRINK_SECONDS = 10.0
# A crash left the workspaces that are older than any build can last.
_SWEEP_SECONDS = 3600.0
SWITCH_SECONDS = 0.0005
# How long a client's connection stays open between requests. Clients close theirs after 5 s (httpx,
# and so OpenAI's) or 15 s (aiohttp): one that the server closes first, just as the client sends its
# next request, is an error that the client may not repeat.
_IDLE_SECONDS = 20
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
        for own in settings.of_bases():
            check_model(own)
        if settings.canary_file is not None:
            read_canaries(settings.canary_file)  # a bad file is told before the engine starts
        stack.enter_context(exported_spans(settings.otlp_endpoint))
        gateway = await open_gateway(
            stack,
            settings,
            connect=partial(_connect, stack, settings, progress),
            elsewhere=bool(settings.engine_url),
            check_reach=partial(check_reach, bound),
        )
        server = GatewayServer(create_app(gateway), gateway, ready)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, server.stop)
        await server.serve(sockets=[bound])


async def open_gateway(
    stack: AsyncExitStack, settings: Settings, *, elsewhere: bool, connect: Connect,
    check_reach: CheckReach, workers: BuildWorkers | None = None, launch: Launch | None = None,
) -> Gateway:  # fmt: skip
    """Start everything behind the HTTP routes.

    Args:
        stack: stops it again.
        settings: of the gateway.
        elsewhere: whether engines are on other machines.
        connect: lets engines join the fleets of the bases; returns when one of them is up.
        check_reach: raises an OSError where callers reach the gateway that must not.
        workers, launch: see `Gateway`.

    Raises:
        OSError, EngineStartFailed: see `connect` and `check_reach`.
        BasesAlike: two of the bases are the same.
        registry.errors.RegistryError: the database or a base cannot be used.
    """
    registry, versions = open_registry(settings, statement_seconds=settings.statement_seconds)
    has_keys = bool(settings.api_keys) or registry.access.keys.live().any
    check_reach(has_keys=has_keys)
    if not has_keys:
        _log.info(_OPEN)
    own_folders = elsewhere and settings.store is not None
    bases, posts = _prepared(registry, settings, own_folders=own_folders)
    # Importing torch takes seconds, which would delay the first request for a composition.
    methods = asyncio.create_task(asyncio.to_thread(import_methods), name="import merge methods")
    await connect(posts)
    await methods
    gateway = Gateway(
        settings, registry=registry, versions=versions, bases=bases, workers=workers, launch=launch
    )
    for store in (versions, gateway.artifacts):
        store.sweep(older_than_seconds=_SWEEP_SECONDS)
    await gateway.builder.start()
    stack.push_async_callback(gateway.builder.stop)
    stack.push_async_callback(gateway.previews.stop)
    gateway.storage.sweep(older_than_seconds=_SWEEP_SECONDS)
    gateway.jobs.start()
    stack.push_async_callback(gateway.jobs.stop)
    for base in bases:
        informing = asyncio.create_task(base.fleet.keep_informed(), name="residency")
        stack.push_async_callback(_end, informing)
    warming = asyncio.create_task(Warmer(gateway).run(), name="warming")
    stack.push_async_callback(_end, warming)
    counting = asyncio.create_task(gateway.meter.run(), name="usage")
    stack.push_async_callback(_end, counting)
    shrinking = asyncio.create_task(_keep_small(gateway), name="artifact budget")
    stack.callback(shrinking.cancel)
    return gateway


def _prepared(
    registry: Registry, settings: Settings, *, own_folders: bool
) -> tuple[ServedBases, list[Post]]:
    """Register the bases; return them, and their fleets for engines to join.

    `own_folders`: see `Fleet`.

    Raises:
        BasesAlike: two of them are the same.
        registry.errors.RegistryError: one of them cannot be registered.
    """
    served, posts = [], []
    for own in settings.of_bases():
        base = ensure_base(registry, own)
        fleet = Fleet(slots=own.max_loras, own_folders=own_folders)
        served.append(ServedBase(base.name, own, fleet))
        posts.append(Post(own, fleet, proof_of(own, base.shapes)))
    return ServedBases(served), posts


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def import_methods() -> None:
    """Import the merge methods, and torch with them."""
    from merge.methods import METHODS  # noqa: F401


async def _connect(
    stack: AsyncExitStack, settings: Settings, progress: Progress | None, posts: Sequence[Post]
) -> None:
    """Let the engines of the settings join: those at their URLs, or one child for each base."""
    if settings.engine_url:
        key = settings.engine_key.get_secret_value() if settings.engine_key else None
        recruiter = Recruiter(Listed(settings.engine_url, key), posts, settings)
        stack.push_async_callback(recruiter.stop)
        await recruiter.start(settings.engine_start_seconds)
        return
    for post in posts:  # one after another: each takes the most memory while it starts
        await _launch(stack, post, progress, alone=len(posts) == 1)


async def _launch(
    stack: AsyncExitStack, post: Post, progress: Progress | None, *, alone: bool
) -> None:
    """Start the engine of a base on this machine; names say which base if it is not `alone`."""
    base, home = post.settings.served_base, post.settings.home.resolve()
    shown = progress
    if progress is not None and not alone:
        shown = partial(_show_of, progress, base)
    supervisor = Supervisor(
        post.settings,
        log_path=home / ("engine.log" if alone else f"engine-{base.replace('/', '--')}.log"),
        prove=post.prove,
        progress=shown,
        name="child" if alone else base,
    )
    await supervisor.start()
    stack.push_async_callback(supervisor.stop)
    engine = VllmEngine(supervisor, idle_seconds=post.settings.stream_idle_seconds)
    stack.push_async_callback(engine.close)
    post.fleet.join(engine)


def _show_of(progress: Progress, base: str, stage: str) -> None:
    progress(f"{base}: {stage}")


async def _keep_small(gateway: Gateway) -> None:
    while True:
        try:
            await gateway.evictor.shrink()
            await asyncio.to_thread(
                tend_copies, gateway.versions, gateway.artifacts, gateway.registry.jobs,
                budget_bytes=gateway.settings.store_cache_bytes,
            )  # fmt: skip
            await asyncio.to_thread(gateway.storage.drop_removed_copies, gateway.registry.files)
        except Exception:  # the next round must still run
            _log.exception("the stores of adapters were not reduced to their budgets")
        await asyncio.sleep(_SHRINK_SECONDS)


class GatewayServer(uvicorn.Server):
    """A uvicorn server that calls `ready` when it listens, and ends answers with an error event."""

    def __init__(self, app: FastAPI, gateway: Gateway, ready: Ready | None) -> None:
        settings = gateway.settings
        # Threads that compute hold Python's lock for this long, and the loop, which gives it away
        # at every call of the system, waits as often.
        sys.setswitchinterval(SWITCH_SECONDS)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_config=None,  # its lines have the format of all others
                access_log=False,
                timeout_keep_alive=_IDLE_SECONDS,
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
