"""One run of vLLM as a child process: its start, its proof, its end. Nothing here restarts it."""

import asyncio
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import aiohttp

from server.engine.command import engine_command, engine_environment
from server.engine.link import Endpoint
from server.engine.liveness import Problem, ask_core, until_lost
from server.engine.output import EngineOutput
from server.engine.proof import EngineStartFailed, Prove, proven
from server.engine.startup_log import root_cause, stage_of
from server.settings import Settings

Progress: TypeAlias = Callable[[str], None]  # called repeatedly with the stage of a start
_log = logging.getLogger("weft.engine")
_STARTING_POLL_SECONDS, _STARTING_ANSWER_SECONDS = 0.25, 2.0
_POLL_SECONDS = 1.0
_STOP_SECONDS = 20.0
_SETTLE_SECONDS = 1.0
_TAIL_BYTES = 3000


class EngineProcess:
    """A vLLM child, started as often as `start` is called; one runs at a time.

    Args:
        settings: of the engine.
        log_path: where its output goes.
        prove: called with the endpoint at every start, before any other request; if it raises, the
            start has failed.
        progress: called with the stage of a start.
        variables: more of the engine's environment.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        log_path: Path,
        prove: Prove,
        progress: Progress | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._settings, self._prove, self._progress = settings, prove, progress
        self._output, self._variables = EngineOutput(log_path), variables or {}
        self._process: Process | None = None
        self._lifeline: Connection | None = None

    async def start(self, endpoint: Endpoint) -> None:
        """Start the engine at `endpoint`; return once it answers and has been proven.

        Raises:
            EngineStartFailed: nothing is left running.
        """
        started = time.monotonic()
        try:
            self._process = await self._spawn(endpoint)
            await self._wait_healthy(endpoint)
            self._report("testing that base and adapters do not mix")
            await proven(self._prove, endpoint, self._settings.engine_start_seconds)
        except (OSError, ValueError) as error:  # no process, no memory, an invalid argument
            await self.end()
            raise EngineStartFailed(f"the engine cannot be started: {error}") from error
        except BaseException:
            await self.end()
            raise
        _log.info("engine ready after %.1f s", time.monotonic() - started)

    async def _spawn(self, endpoint: Endpoint) -> Process:
        where = urlsplit(endpoint.url)
        assert where.port is not None
        assert where.hostname is not None
        # This process keeps the other end; the system closes it when this process ends.
        lifeline, self._lifeline = multiprocessing.Pipe(duplex=False)
        reader, writer = os.pipe()
        self._output.copy(reader)
        try:
            with lifeline:
                environment = engine_environment(
                    self._settings, endpoint.key or "", lifeline.fileno()
                )
                process = await asyncio.create_subprocess_exec(
                    *engine_command(self._settings, where.port, where.hostname),
                    env={**environment, **self._variables},
                    pass_fds=[lifeline.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=writer,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,  # so that its processes can be ended as one group
                )
        finally:
            os.close(writer)
        _log.info(
            "engine starting: pid %d, %s, log %s", process.pid, endpoint.url, self._output.path
        )
        return process

    async def until_lost(self, endpoint: Endpoint) -> Problem:
        """Return why the engine is lost: its process ended, or its core does not answer."""
        assert self._process is not None
        async with aiohttp.ClientSession() as http:
            ask = partial(ask_core, http, endpoint, self._settings.engine_probe_seconds)
            asking = asyncio.create_task(
                until_lost(
                    ask, misses=self._settings.engine_probe_misses, pause_seconds=_POLL_SECONDS
                )
            )
            ended = asyncio.create_task(self._process.wait())
            try:
                await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    return Problem(f"its process ended with code {ended.result()}")
                return asking.result()
            finally:
                asking.cancel()
                ended.cancel()

    async def end(self, seconds: float = _STOP_SECONDS) -> None:
        """End the engine and its children: with SIGTERM, and what is left with SIGKILL."""
        process = self._process
        if process is None:
            return
        try:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await process.wait()
        finally:
            # The engine core can still run after the API server has ended, so the whole group is
            # killed, also on cancellation, which must not leave an engine running.
            _signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        self._process = None

    async def cause(self) -> str:
        """Return the last root cause in the output of this start, or else its last lines."""
        if self._process is None or self._process.returncode is not None:
            await asyncio.to_thread(self._output.settle, _SETTLE_SECONDS)
        cause = root_cause(self._output.tail())
        if cause is not None:
            return f"{cause}\n(log: {self._output.path})"
        return f"\n{self._output.tail(_TAIL_BYTES) or 'it has written nothing'}"

    async def _wait_healthy(self, endpoint: Endpoint) -> None:
        deadline = time.monotonic() + self._settings.engine_start_seconds
        async with aiohttp.ClientSession() as http:
            while time.monotonic() < deadline:
                if self._process is None or self._process.returncode is not None:
                    cause = await self.cause()
                    raise EngineStartFailed(f"the engine exited at start: {cause}")
                if await ask_core(http, endpoint, _STARTING_ANSWER_SECONDS) is None:
                    return
                self._report(stage_of(self._output.tail(_TAIL_BYTES)))
                await asyncio.sleep(_STARTING_POLL_SECONDS)
        seconds = self._settings.engine_start_seconds
        cause = await self.cause()
        raise EngineStartFailed(f"the engine was not ready after {seconds:.0f} s: {cause}")

    def _report(self, stage: str | None) -> None:
        if self._progress is not None and stage is not None:
            self._progress(stage)


def new_endpoint(settings: Settings, host: str = "127.0.0.1") -> Endpoint:
    """Return where to start an engine: a free port of an address of this machine, and a new key."""
    port = settings.engine_port or free_port(host)
    return Endpoint(f"http://{host}:{port}", secrets.token_urlsafe(24))


def free_port(host: str) -> int:
    """Return a port of `host`, an address of this machine, that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
