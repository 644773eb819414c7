"""Keeps fleets in step with the members: engines that appear are proven and join, others leave.

An engine announces its base (`announced.py`), and joins the fleet of that base.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass

from server.engine.announced import Announcement, EngineUnfit, announced, check_fit
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
class Post:
    """A base that engines may serve.

    Attributes:
        settings: of the base.
        fleet: what its engines join.
        prove: called each time an engine comes up, before any request.
    """

    settings: Settings
    fleet: Fleet
    prove: Prove


@dataclass(slots=True, eq=False)
class _Recruit:
    """A member: its engine, its link, and the base that it has proven to serve."""

    engine: VllmEngine
    remote: Remote
    post: Post | None = None
    gone: bool = False


class Recruiter:
    """Lets engines that are started elsewhere join the fleets of their bases, and leave them.

    Args:
        members: which there are.
        posts: the bases of this gateway, at least one.
        settings: limits of probes and answers.
    """

    def __init__(self, members: Members, posts: Sequence[Post], settings: Settings) -> None:
        self._members, self._posts, self._settings = members, tuple(posts), settings
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
        generation = self._generations.get(endpoint, 0)

        async def prove(where: Endpoint) -> None:
            await self._prove(recruit, where)

        remote = Remote(endpoint, self._settings, prove=prove, generation=generation)
        engine = VllmEngine(remote, idle_seconds=self._settings.stream_idle_seconds)
        recruit = self._recruits[endpoint] = _Recruit(engine, remote)
        self._spawn(self._enlist(endpoint, recruit, wait_seconds), "engine that joins")

    async def _enlist(self, endpoint: Endpoint, recruit: _Recruit, wait_seconds: float) -> None:
        try:
            await recruit.remote.start(wait_seconds)
        except EngineStartFailed as error:
            if recruit.gone:
                return
            self._failures[endpoint] = str(error)
            _log.error("%s", error)
            recruit.remote.watch()  # it may be mended
        else:
            _log.info("the engine at %s has joined", endpoint.url)
            self._first.set()

    async def _prove(self, recruit: _Recruit, endpoint: Endpoint) -> None:
        """Prove an engine for the base that it announces, whose fleet it then joins.

        Raises:
            EngineUnfit, and what its post's `prove` raises: it joins none.
        """
        announcement = await announced(endpoint, self._settings.engine_probe_seconds)
        post = self._post_of(announcement, endpoint.url)
        if announcement is not None:
            check_fit(announcement, post.settings, endpoint.url)
        await post.prove(endpoint)
        if recruit.gone:
            raise EngineUnfit(f"{endpoint.url} has left")
        if recruit.post is not post:
            if recruit.post is not None:  # it was started again with another base
                await recruit.post.fleet.leave(recruit.engine)
            recruit.post = post
            post.fleet.join(recruit.engine)

    def _post_of(self, announcement: Announcement | None, url: str) -> Post:
        if announcement is None:
            if len(self._posts) == 1:
                return self._posts[0]
            raise EngineUnfit(f"{url} does not say which base it serves: update weft there")
        for post in self._posts:
            if post.settings.served_base in announcement.names:
                return post
        theirs = ", ".join(sorted(announcement.names))
        ours = ", ".join(post.settings.served_base for post in self._posts)
        raise EngineUnfit(
            f"{url} serves the base {theirs}, and this gateway serves {ours}: start it with "
            "--served-model-name, or add its base to WEFT_BASES"
        )

    async def _leave(self, endpoint: Endpoint, recruit: _Recruit) -> None:
        _log.info("the engine at %s has left", endpoint.url)
        recruit.gone = True
        if recruit.post is not None:
            await recruit.post.fleet.leave(recruit.engine)
        self._generations[endpoint] = recruit.remote.generation
        await _dismiss(recruit)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _dismiss(recruit: _Recruit) -> None:
    await recruit.remote.stop()
    await recruit.engine.close()
