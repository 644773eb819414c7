"""Watches a vLLM that is started elsewhere."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import aiohttp

from server.engine.link import Endpoint, Outage
from server.engine.liveness import Problem, ask_core, until_lost
from server.engine.proof import EngineStartFailed, Prove, proven
from server.engine.protocol import EngineUnavailable
from server.settings import Settings

_log = logging.getLogger("weft.engine")
_POLL_SECONDS = 1.0
_FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS = 1.0, 60.0
# Answers that mean a wrong set-up: waiting does not change them.
_HINTS = {
    401: "set WEFT_ENGINE_KEY to the engine's VLLM_API_KEY",
    404: "start it with weft's plug-in (VLLM_PLUGINS=weft)",
}


class Remote:
    """A link to a vLLM with weft's plug-in that is started and restarted elsewhere.

    Args:
        endpoint: where it is.
        settings: limits of probes.
        prove: called each time the engine comes up, before any request.
        generation: the last one of the engine of this address.
    """

    def __init__(
        self, endpoint: Endpoint, settings: Settings, *, prove: Prove, generation: int = 0
    ) -> None:
        self._where, self._settings, self._prove = endpoint, settings, prove
        self._up = False
        self._watch: asyncio.Task[None] | None = None
        self.outage = Outage()
        self.name, self.generation = endpoint.url, generation

    def endpoint(self) -> Endpoint:
        """See `Link`."""
        if not self._up:
            raise EngineUnavailable(f"the engine at {self._where.url} does not answer")
        return self._where

    async def start(self, wait_seconds: float) -> None:
        """Start to watch the engine; return when it answers and `prove` has passed.

        Raises:
            EngineStartFailed: it does not answer within `wait_seconds`, refuses weft's key, has no
                plug-in, or `prove` has failed.
        """
        deadline = time.monotonic() + wait_seconds
        async with aiohttp.ClientSession() as http:
            while problem := await self._ask(http):
                place = f"the engine at {self._where.url}"
                if problem.status in _HINTS:
                    raise EngineStartFailed(f"{place}: {problem.reason}; {_HINTS[problem.status]}")
                if time.monotonic() > deadline:
                    raise EngineStartFailed(f"{place} is not ready: {problem.reason}")
                await asyncio.sleep(_POLL_SECONDS)
        await proven(self._prove, self._where, self._settings.engine_start_seconds)
        self.generation, self._up = self.generation + 1, True
        self.watch()

    def watch(self) -> None:
        """Start to watch the engine, also one that has not come up yet."""
        self._watch = asyncio.create_task(self._keep_watching(), name="engine watch")

    async def stop(self) -> None:
        """Stop watching. The engine keeps running."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    async def _keep_watching(self) -> None:
        async with aiohttp.ClientSession() as http:
            ask = partial(self._ask, http)
            if not self._up:
                await self._until_back(ask)
            while True:
                problem = await until_lost(
                    ask, misses=self._settings.engine_probe_misses, pause_seconds=_POLL_SECONDS
                )
                self._up = False
                _log.error("the engine at %s is lost: %s", self._where.url, problem.reason)
                self.outage.declare(f"the engine is lost: {problem.reason}")
                await self._until_back(ask)

    async def _until_back(self, ask: Callable[[], Awaitable[Problem | None]]) -> None:
        """Return when the engine answers again and `prove` has passed."""
        backoff = _FIRST_BACKOFF_SECONDS
        while True:
            if await ask() is not None:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            try:
                await proven(self._prove, self._where, self._settings.engine_start_seconds)
            except EngineStartFailed as error:
                _log.error("the engine was refused, next try in %.0f s: %s", backoff, error)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _LAST_BACKOFF_SECONDS)
            else:
                self.generation, self._up = self.generation + 1, True
                return

    async def _ask(self, http: aiohttp.ClientSession) -> Problem | None:
        return await ask_core(http, self._where, self._settings.engine_probe_seconds)
