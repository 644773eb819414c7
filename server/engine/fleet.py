"""The engines that serve one base: which of them answers a request, and what each has in memory.

A request keeps its engine to its end. Which one it gets is `placement.choose`, by the requests of
this gateway. Not covered: which engines there are (`members.py`), and whether one is up (`Link`).
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from server.engine.link import RESTART_SECONDS
from server.engine.placement import Candidate, choose
from server.engine.protocol import Engine, EngineAdapters, EngineUnavailable, together

# How long an engine that has failed a request gets none while others can answer: longer than its
# link takes to see that it is lost.
_DOUBT_SECONDS = 5.0
_NEWS_SECONDS = 1.0  # between looks at what the engines have in memory
_IDLE_POLL_SECONDS = 0.2


class _Member:
    """An engine, and what this gateway knows of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.running: Counter[str] = Counter()  # this gateway's requests by adapter
        self.resident: frozenset[str] = frozenset()
        self.doubted_until = 0.0

    def trusted(self) -> bool:
        return time.monotonic() >= self.doubted_until

    def candidate(self, digest: str, slots: int) -> Candidate:
        others = len(self.running) - (digest in self.running)
        return Candidate(
            self.engine.name, self.running.total(), digest in self.resident, others < slots
        )


class Fleet:
    """The engines of a base. For one event loop.

    Args:
        engines: those that are there from the start; `join` and `leave` change them.
        slots: adapters that an engine runs at once (`max_loras`).
        own_folders: whether each engine's machine has a folder of its own (`weft node`), and a
            budget of its own.
        absent: why there is no engine and never will be, as in a command without a server.
    """

    def __init__(
        self, engines: Iterable[Engine] = (), *, slots: int = 8, own_folders: bool = False,
        absent: str | None = None,
    ) -> None:  # fmt: skip
        self._members = {engine.name: _Member(engine) for engine in engines}
        self._slots, self.own_folders, self.absent = slots, own_folders, absent
        self._base_requests = itertools.count()
        self.lost_requests = 0  # that were lost with an engine

    @property
    def engines(self) -> Sequence[Engine]:
        """All engines, also those that are lost for the moment."""
        return [member.engine for member in self._members.values()]

    @property
    def slots(self) -> int:
        """Adapters that each engine runs at once."""
        return self._slots

    def running_on(self, engine: Engine) -> Mapping[str, int]:
        """Return the number of this gateway's requests on an engine by adapter; "" is the base."""
        member = self._members.get(engine.name)
        return {} if member is None else dict(member.running)

    def join(self, engine: Engine) -> None:
        """Let an engine answer requests."""
        self._members[engine.name] = _Member(engine)

    async def leave(self, engine: Engine) -> None:
        """Give an engine no more requests, and wait until it has answered those that it has."""
        member = self._members.get(engine.name)
        if member is None or member.engine is not engine:
            return
        del self._members[engine.name]
        while member.running:
            await asyncio.sleep(_IDLE_POLL_SECONDS)

    def available(self) -> bool:
        """Return whether an engine takes requests now. Never blocks."""
        return any(member.engine.available() for member in self._members.values())

    def require(self) -> None:
        """Raise EngineUnavailable unless an engine takes requests now."""
        if not self.available():
            raise self._lost()

    def has_another(self) -> bool:
        """Return whether an engine takes requests that has not failed one just now."""
        return any(m.engine.available() and m.trusted() for m in self._members.values())

    @contextmanager
    def at(self, digest: str | None) -> Iterator[Engine]:
        """Yield the engine that answers for an adapter, which a request keeps to its end.

        An engine that is lost to the request gets no other one for a while.

        Args:
            digest: the adapter's; None for the base.

        Raises:
            EngineUnavailable: no engine takes requests.
        """
        member = self._choose(digest)
        name = digest or ""
        member.running[name] += 1
        try:
            yield member.engine
        except EngineUnavailable:
            self.lost_requests += 1
            member.doubted_until = time.monotonic() + _DOUBT_SECONDS
            raise
        finally:
            member.running[name] -= 1
            if not member.running[name]:
                del member.running[name]

    def note_loading(self, engine: Engine, digest: str) -> None:
        """Note that an engine is about to have an adapter in memory."""
        if engine.name in self._members:
            self._members[engine.name].resident |= {digest}

    async def remove(self, digest: str) -> None:
        """Remove an artifact from every engine. Idempotent. No lease may be held.

        Of several engines those that are lost are passed over: what they know is linked by their
        own plug-in (`pinned.py`), so that its files outlast any removal here.

        Raises:
            EngineBusy, EngineUnavailable: not every engine has removed it; the files must stay.
        """
        up = [member for member in self._members.values() if member.engine.available()]
        if not up:
            raise self._lost()
        for member in up:
            await member.engine.remove(digest)
            member.resident -= {digest}

    async def adapters(self) -> EngineAdapters:
        """Return the adapters of all engines together. Raises EngineUnavailable: none answers."""
        answers = await asyncio.gather(
            *(member.engine.adapters() for member in self._members.values()),
            return_exceptions=True,
        )
        answered = [answer for answer in answers if isinstance(answer, EngineAdapters)]
        for answer in answers:
            if not isinstance(answer, EngineAdapters | EngineUnavailable):
                raise answer
        if not answered:
            raise self._lost()
        return together(answered)

    def generations(self) -> dict[str, int]:
        """Return the generation of every engine that takes requests, by its name."""
        engines = [engine for engine in self.engines if engine.available()]
        return {engine.name: engine.generation for engine in engines}

    async def keep_informed(self) -> None:
        """Look again and again at what the engines have in memory, until cancelled."""
        while True:
            if len(self._members) > 1:
                await asyncio.gather(*(_look(member) for member in list(self._members.values())))
            await asyncio.sleep(_NEWS_SECONDS)

    def _choose(self, digest: str | None) -> _Member:
        up = [member for member in self._members.values() if member.engine.available()]
        if not up:
            raise self._lost()
        able = [member for member in up if member.trusted()] or up
        if len(able) == 1:
            return able[0]
        if digest is None:  # any engine: the least busy one, and of several each in its turn
            chosen = choose(
                str(next(self._base_requests)),
                [Candidate(m.engine.name, m.running.total(), resident=False) for m in able],
                slack=0,
            )
        else:
            chosen = choose(digest, [member.candidate(digest, self._slots) for member in able])
        return self._members[chosen.url]

    def _lost(self) -> EngineUnavailable:
        if self.absent is not None:
            return EngineUnavailable(self.absent)
        return EngineUnavailable("The engine is starting or restarting.", RESTART_SECONDS)


async def _look(member: _Member) -> None:
    with suppress(EngineUnavailable, TimeoutError):
        async with asyncio.timeout(_NEWS_SECONDS):
            member.resident = (await member.engine.adapters()).resident
