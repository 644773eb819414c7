"""Starts vLLM as a child process, watches it, and restarts it when it dies or hangs."""

import asyncio
import logging
import time
from contextlib import suppress
from pathlib import Path

from server.engine.link import RESTART_SECONDS, Endpoint, Outage
from server.engine.process import EngineProcess, Progress, new_endpoint
from server.engine.proof import EngineStartFailed, Prove
from server.engine.protocol import EngineUnavailable
from server.settings import Settings

_log = logging.getLogger("weft.engine")
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 1.0, 60.0
_LOST_STOP_SECONDS = 2.0  # an engine that does not answer will hardly end in order


class Supervisor:
    """Owns one vLLM child, and restarts it when it dies or its core hangs.

    `start` returns when the child is ready and `prove` has passed; see `EngineProcess` for the
    arguments. Of several supervisors each has a `name` of its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        log_path: Path,
        prove: Prove,
        progress: Progress | None = None,
        name: str = "child",
    ) -> None:
        self._settings = settings
        self._process = EngineProcess(settings, log_path=log_path, prove=prove, progress=progress)
        self._endpoint: Endpoint | None = None
        self._state = "the engine is starting"
        self._watch: asyncio.Task[None] | None = None
        self.outage = Outage()
        self.name = name
        self.generation = 0

    def endpoint(self) -> Endpoint:
        """See `Link`."""
        if self._endpoint is None:
            raise EngineUnavailable(self._state, RESTART_SECONDS)
        return self._endpoint

    async def start(self) -> None:
        """Start the engine and the task that watches it.

        Raises:
            EngineStartFailed: nothing is left running.
        """
        endpoint = await self._start_once()
        self._watch = asyncio.create_task(self._keep_alive(endpoint), name="engine watch")

    async def stop(self) -> None:
        """End the engine and its children."""
        self._endpoint, self._state = None, "the engine is shutting down"
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await self._process.end()

    async def _start_once(self) -> Endpoint:
        self.generation += 1
        endpoint = new_endpoint(self._settings)
        await self._process.start(endpoint)
        self._endpoint = endpoint
        return endpoint

    async def _keep_alive(self, endpoint: Endpoint) -> None:
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            began = time.monotonic()
            problem = await self._process.until_lost(endpoint)
            self._endpoint, self._state = None, "the engine is lost and is being restarted"
            self.outage.declare(f"the engine is lost and is being restarted: {problem.reason}")
            await self._process.end(_LOST_STOP_SECONDS)
            cause = await self._process.cause()
            _log.error("the engine is lost: %s; its log: %s", problem.reason, cause)
            if time.monotonic() - began > 10 * _LAST_BACKOFF_SECONDS:
                backoff = _FIRST_BACKOFF_SECONDS
            endpoint, backoff = await self._restart(backoff)

    async def _restart(self, backoff: float) -> tuple[Endpoint, float]:
        """Restart the engine until it starts; return where it is, and the next back-off."""
        while True:
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LAST_BACKOFF_SECONDS)
            try:
                return await self._start_once(), backoff
            except EngineStartFailed as error:
                self._state = "the engine does not start; see its log"
                _log.error("restart failed, next try in %.0f s: %s", backoff, error)
