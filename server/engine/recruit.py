"""Keeps a fleet in step with its members: engines that appear are proven and join, others leave."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass

from server.engine.client import VllmEngine
from server.engine.fleet import Fleet
from server.engine.link import Endpoint
from server.engine.members import Members
from server.engine.proof import EngineStartFailed, Prove
from server.engine.remote import Remote
from server.settings import Settings

_LOOK_SECONDS = 2.0  # between looks at the members
_log = logging.getLogger("weft.engine")


@dataclass(frozen=True, slots=True)
class _Recruit:
    """An engine of the fleet and its link."""

    engine: VllmEngine
    remote: Remote


class Recruiter:
    """Lets engines that are started elsewhere join a fleet, and leave it.

    Args:
        members: which there are.
        fleet: what they join.
        settings: limits of probes and answers.
        prove: called each time an engine comes up, before any request.
    """

    def __init__(self, members: Members, fleet: Fleet, settings: Settings, *, prove: Prove) -> None:
        self._members, self._fleet = members, fleet
        self._settings, self._prove = settings, prove
        self._recruits: dict[Endpoint, _Recruit] = {}
        self._generations: dict[Endpoint, int] = {}  # the last one of engines that have left
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: dict[Endpoint, str] = {}
        self._first = asyncio.Event()

    async def start(self, wait_seconds: float) -> None:
        """Return when an engine is up; the others join when they are.

        Raises:
            EngineStartFailed: none has come up in time, or all of them are set up wrong.
        """
        deadline = time.monotonic() + wait_seconds
        problem = await self._update(wait_seconds)
        self._spawn(self._keep_looking(), "members of the fleet")
        while not self._first.is_set():
            if self._recruits and self._failures.keys() >= self._recruits.keys():
                raise EngineStartFailed("\n".join(self._failures.values()))
            if time.monotonic() > deadline and not self._recruits:
                raise EngineStartFailed(problem or "no engine is known")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._first.wait(), 0.05)

    async def stop(self) -> None:
        """Stop watching and close the connections. The engines keep running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for recruit in self._recruits.values():
            await _dismiss(recruit)

    async def _keep_looking(self) -> None:
        problem = ""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            before, problem = problem, await self._update(0)
            if problem and problem != before:
                _log.warning("%s; the engines stay as they are", problem)

    async def _update(self, wait_seconds: float) -> str:
        """Let engines join and leave; return why this cannot be told, if so."""
        try:
            endpoints = await self._members.endpoints()
        except OSError as error:
            return str(error)
        for endpoint in self._recruits.keys() - endpoints:
            self._spawn(self._leave(endpoint, self._recruits.pop(endpoint)), "engine that leaves")
        for endpoint in endpoints - self._recruits.keys():
            self._join(endpoint, wait_seconds)
        return ""

    def _join(self, endpoint: Endpoint, wait_seconds: float) -> None:
        remote = Remote(
            endpoint, self._settings, prove=self._prove,
            generation=self._generations.get(endpoint, 0),
        )  # fmt: skip
        engine = VllmEngine(remote, idle_seconds=self._settings.stream_idle_seconds)
        recruit = self._recruits[endpoint] = _Recruit(engine, remote)
        self._fleet.join(engine)
        self._spawn(self._enlist(endpoint, recruit, wait_seconds), "engine that joins")

    async def _enlist(self, endpoint: Endpoint, recruit: _Recruit, wait_seconds: float) -> None:
        try:
            await recruit.remote.start(wait_seconds)
        except EngineStartFailed as error:
            self._failures[endpoint] = str(error)
            _log.error("%s", error)
            recruit.remote.watch()  # it may be mended
        else:
            _log.info("the engine at %s has joined", endpoint.url)
            self._first.set()

    async def _leave(self, endpoint: Endpoint, recruit: _Recruit) -> None:
        _log.info("the engine at %s has left", endpoint.url)
        await self._fleet.leave(recruit.engine)
        self._generations[endpoint] = recruit.remote.generation
        await _dismiss(recruit)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _dismiss(recruit: _Recruit) -> None:
    await recruit.remote.stop()
    await recruit.engine.close()
