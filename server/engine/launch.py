"""Starts vLLM as a child process, watches it and restarts it when it dies."""

import asyncio
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import httpx

from server.engine.client import Endpoint
from server.engine.command import engine_command, engine_environment
from server.engine.protocol import EngineUnavailable
from server.engine.startup_log import root_cause, stage_of
from server.settings import Settings

Prove: TypeAlias = Callable[[Endpoint], Awaitable[None]]
Progress: TypeAlias = Callable[[str], None]  # called repeatedly with the stage of a start
_log = logging.getLogger("weft.engine")
_POLL_SECONDS = 0.25
_HEALTH_SECONDS = 2.0
# A failed health check does not mean a dead engine: a long prefill can block its loop.
_HEALTH_FAILURES = 15
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 1.0, 60.0
_STOP_SECONDS = 20.0
_TAIL_BYTES, _CAUSE_BYTES = 3000, 2**20
_LOG_BYTES = 50 * 2**20


class EngineStartFailed(Exception):
    """The engine did not start; the message has the cause from the engine's log."""


class Supervisor:
    """Owns one vLLM child, and restarts it when it dies.

    `start` returns when the child is ready and `prove` has passed. `prove` is called with the
    endpoint at every start, before any other request; if it raises, the start has failed.
    `progress` is called while the engine starts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        log_path: Path,
        prove: Prove,
        progress: Progress | None = None,
    ) -> None:
        self._settings, self._log_path, self._prove = settings, log_path, prove
        self._progress = progress
        self._log_start = 0  # the log position at which the newest start begins
        self._process: Process | None = None
        self._lifeline: Connection | None = None
        self._endpoint: Endpoint | None = None
        self._state = "the engine is starting"
        self._watch: asyncio.Task[None] | None = None
        self.generation = 0

    def endpoint(self) -> Endpoint:
        """See `Link`."""
        if self._endpoint is None:
            raise EngineUnavailable(self._state, retry_after_seconds=10)
        return self._endpoint

    async def start(self) -> None:
        """Start the engine and the task that watches it.

        Raises:
            EngineStartFailed: nothing is left running.
        """
        await self._start_once()
        self._watch = asyncio.create_task(self._keep_alive(), name="engine watch")

    async def stop(self) -> None:
        """End the engine and its children."""
        self._endpoint, self._state = None, "the engine is shutting down"
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await self._end_process()

    async def _start_once(self) -> None:
        self.generation += 1
        port = self._settings.engine_port or _free_port()
        endpoint = Endpoint(f"http://127.0.0.1:{port}", secrets.token_urlsafe(24))
        started = time.monotonic()
        try:
            self._process = await self._spawn(port, endpoint.key or "")
            await self._wait_healthy(endpoint)
            self._report("testing that base and adapters do not mix")
            await proven(self._prove, endpoint)
        except (OSError, ValueError) as error:  # no process, no memory, an invalid argument
            await self._end_process()
            raise EngineStartFailed(f"the engine cannot be started: {error}") from error
        except BaseException:
            await self._end_process()
            raise
        self._endpoint = endpoint
        _log.info("engine ready after %.1f s", time.monotonic() - started)

    async def _spawn(self, port: int, key: str) -> Process:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        if self._log_path.exists() and self._log_path.stat().st_size > _LOG_BYTES:
            self._log_path.rename(self._log_path.with_suffix(".log.1"))
        # The supervisor keeps the other end; the system closes it when the gateway ends.
        lifeline, self._lifeline = multiprocessing.Pipe(duplex=False)
        with self._log_path.open("ab") as log, lifeline:
            self._log_start = log.tell()
            process = await asyncio.create_subprocess_exec(
                *engine_command(self._settings, port),
                env=engine_environment(self._settings.artifacts, key, lifeline.fileno()),
                pass_fds=[lifeline.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # so that its processes can be ended as one group
            )
        _log.info("engine starting: pid %d, port %d, log %s", process.pid, port, self._log_path)
        return process

    async def _wait_healthy(self, endpoint: Endpoint) -> None:
        deadline = time.monotonic() + self._settings.engine_start_seconds
        async with httpx.AsyncClient(timeout=_HEALTH_SECONDS, trust_env=False) as http:
            while time.monotonic() < deadline:
                if self._process is None or self._process.returncode is not None:
                    raise EngineStartFailed(f"the engine exited at start: {self._cause()}")
                if await _healthy(http, endpoint):
                    return
                self._report(stage_of(self._tail()))
                await asyncio.sleep(_POLL_SECONDS)
        seconds = self._settings.engine_start_seconds
        raise EngineStartFailed(f"the engine was not ready after {seconds:.0f} s: {self._cause()}")

    def _report(self, stage: str | None) -> None:
        if self._progress is not None and stage is not None:
            self._progress(stage)

    async def _keep_alive(self) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            began = time.monotonic()
            await self._until_dead()
            self._endpoint, self._state = None, "the engine died and is being restarted"
            _log.error("the engine died: %s", self._cause())
            await self._end_process()
            if time.monotonic() - began > 10 * _LAST_BACKOFF_SECONDS:
                backoff = _FIRST_BACKOFF_SECONDS
            backoff = await self._restart(backoff)

    async def _restart(self, backoff: float) -> float:
        """Restart the engine until it starts; return the back-off for the next failure."""
        while True:
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LAST_BACKOFF_SECONDS)
            try:
                await self._start_once()
            except EngineStartFailed as error:
                self._state = "the engine does not start; see its log"
                _log.error("restart failed, next try in %.0f s: %s", backoff, error)
            else:
                return backoff

    async def _until_dead(self) -> None:
        """Return when the process has ended or its health check has failed too often."""
        failures = 0
        async with httpx.AsyncClient(timeout=_HEALTH_SECONDS, trust_env=False) as http:
            while self._process is not None and self._process.returncode is None:
                healthy = self._endpoint is not None and await _healthy(http, self._endpoint)
                failures = 0 if healthy else failures + 1
                if failures >= _HEALTH_FAILURES:
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
        finally:
            # The engine core can still run after the API server has ended, so the whole group is
            # killed, also on cancellation, which must not leave an engine running.
            _signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        self._process = None

    def _cause(self) -> str:
        """Return the last root cause in the log of this start, or else the last lines."""
        cause = root_cause(self._tail(_CAUSE_BYTES))
        if cause is not None:
            return f"{cause}\n(log: {self._log_path})"
        return f"\n{self._tail() or f'nothing is in {self._log_path}; is the disk full?'}"

    def _tail(self, size: int = _TAIL_BYTES) -> str:
        """Return the end of the newest start's log, at most `size` bytes."""
        try:
            with self._log_path.open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - size))
                return log.read().decode(errors="replace")
        except OSError as error:
            return f"(no log: {error})"


class Remote:
    """A link to a vLLM with weft's plug-in that is started and watched elsewhere.

    `prove` is called each time the engine comes up, as by `Supervisor`.
    """

    def __init__(self, endpoint: Endpoint, *, prove: Prove) -> None:
        self._where, self._prove = endpoint, prove
        self._up = False
        self._watch: asyncio.Task[None] | None = None
        self.generation = 0

    def endpoint(self) -> Endpoint:
        """See `Link`."""
        if not self._up:
            raise EngineUnavailable(f"the engine at {self._where.url} does not answer")
        return self._where

    async def start(self, wait_seconds: float) -> None:
        """Start to watch the engine; return when it answers and `prove` has passed.

        Raises:
            EngineStartFailed: it does not answer within `wait_seconds`, or `prove` has failed.
        """
        deadline = time.monotonic() + wait_seconds
        async with httpx.AsyncClient(timeout=_HEALTH_SECONDS, trust_env=False) as http:
            while not await _healthy(http, self._where):
                if time.monotonic() > deadline:
                    raise EngineStartFailed(f"no engine answers at {self._where.url}")
                await asyncio.sleep(_POLL_SECONDS)
        await proven(self._prove, self._where)
        self.generation, self._up = 1, True
        self._watch = asyncio.create_task(self._poll(), name="engine watch")

    async def stop(self) -> None:
        """Stop watching. The engine keeps running."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    async def _poll(self) -> None:
        failures, backoff = 0, _FIRST_BACKOFF_SECONDS
        async with httpx.AsyncClient(timeout=_HEALTH_SECONDS, trust_env=False) as http:
            while True:
                healthy = await _healthy(http, self._where)
                failures = 0 if healthy else failures + 1
                if failures >= _HEALTH_FAILURES:
                    self._up = False
                elif healthy and not self._up:
                    backoff = await self._welcome(backoff)
                await asyncio.sleep(_POLL_SECONDS)

    async def _welcome(self, backoff: float) -> float:
        """Call `prove` on an engine that answers again; return the wait before the next attempt."""
        try:
            await proven(self._prove, self._where)
        except EngineStartFailed as error:
            _log.error("the engine was refused, next try in %.0f s: %s", backoff, error)
            await asyncio.sleep(backoff)
            return min(2 * backoff, _LAST_BACKOFF_SECONDS)
        self.generation, self._up = self.generation + 1, True
        return _FIRST_BACKOFF_SECONDS


async def proven(prove: Prove, endpoint: Endpoint) -> None:
    """Call `prove`; raise EngineStartFailed if it raises any exception."""
    try:
        await prove(endpoint)
    except Exception as error:
        raise EngineStartFailed(f"the engine came up but is not fit: {error}") from error


async def _healthy(http: httpx.AsyncClient, endpoint: Endpoint) -> bool:
    try:
        response = await http.get(endpoint.url + "/health")
    except httpx.HTTPError:
        return False
    return response.status_code == 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
