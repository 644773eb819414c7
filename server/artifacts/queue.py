"""The queue of builds: round robin among those who ask, however much one of them asks for.

A build that several ask for waits in the line of each, and runs as soon as it is first in one. For
one event loop. Not covered: what a build is (`build.py`).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable


class BuildQueueFull(Exception):
    """The queue of merges is full."""

    retry_after_seconds = 5

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} merges are queued, which is the limit (WEFT_MERGE_QUEUE): try again later"
        )


class TooManyBuilds(Exception):
    """One caller has as many merges waiting as it may."""

    retry_after_seconds = 5

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"{waiting} merges of your namespace or key are queued, which is the limit "
            "(WEFT_MERGE_QUEUE_SHARE): try again when some of them have answered"
        )


class FairQueue:
    """Waiting builds by owner, and who is next.

    Args:
        slots: builds that run at once.
        most: builds that may run or wait.
        share: builds of one owner that may wait.
    """

    def __init__(self, *, slots: int, most: int, share: int) -> None:
        self._slots, self._most, self._share = slots, most, share
        # Owners in the order of their next turns, each with its builds in the order of asking.
        self._lines: OrderedDict[str, OrderedDict[Hashable, None]] = OrderedDict()
        self._waiting: dict[Hashable, asyncio.Future[None]] = {}
        self._running: set[Hashable] = set()

    @property
    def counts(self) -> tuple[int, int]:
        """The number of builds that run and of those that wait."""
        return len(self._running), len(self._waiting)

    def enter(self, build: Hashable, owner: str) -> asyncio.Future[None]:
        """Let a new build wait; the result is done when it is its turn. `leave` must follow.

        Raises:
            TooManyBuilds: `owner` has its share of the queue.
            BuildQueueFull: the queue is full.
        """
        own = len(self._lines.get(owner, ()))
        if own >= self._share:
            raise TooManyBuilds(own)
        total = len(self._running) + len(self._waiting)
        if total >= self._most:
            raise BuildQueueFull(total)
        turn = self._waiting[build] = asyncio.get_running_loop().create_future()
        self.join(build, owner)
        self._next()
        return turn

    def join(self, build: Hashable, owner: str) -> None:
        """Let a build that waits be in the line of `owner`, too."""
        if build in self._waiting:
            self._lines.setdefault(owner, OrderedDict())[build] = None

    def leave(self, build: Hashable) -> None:
        """End a build's turn, or its waiting for one. A build may leave twice."""
        if build in self._waiting:
            self._step_out(build).cancel()
        self._running.discard(build)
        self._next()

    def _next(self) -> None:
        while self._lines and len(self._running) < self._slots:
            owner, line = next(iter(self._lines.items()))
            self._lines.move_to_end(owner)
            build = next(iter(line))
            turn = self._step_out(build)
            if not turn.done():  # a build that was cancelled is about to leave
                self._running.add(build)
                turn.set_result(None)

    def _step_out(self, build: Hashable) -> asyncio.Future[None]:
        for owner, line in list(self._lines.items()):
            line.pop(build, None)
            if not line:
                del self._lines[owner]
        return self._waiting.pop(build)
