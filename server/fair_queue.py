"""A queue for slots: round robin among those who ask, however much one of them asks for.

A task that several ask for waits in the line of each, and runs as soon as it is first in one. For
one event loop. Builds wait in one, and the calls of each pool of threads.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable


class FairQueue:
    """Waiting tasks by owner, and who is next.

    Args:
        slots: tasks that run at once.
        most: tasks that may run or wait.
        share: tasks of one owner that may wait.
        full: returns the error for a full queue, from the number of tasks in it.
        share_full: returns the error for an owner with its share, from the number of its tasks.
    """

    def __init__(
        self, *, slots: int, most: int, share: int,
        full: Callable[[int], Exception], share_full: Callable[[int], Exception],
    ) -> None:  # fmt: skip
        self._slots, self._most, self._share = slots, most, share
        self._full, self._share_full = full, share_full
        # Owners in the order of their next turns, each with its tasks in the order of asking.
        self._lines: OrderedDict[str, OrderedDict[Hashable, None]] = OrderedDict()
        self._waiting: dict[Hashable, asyncio.Future[None]] = {}
        self._running: set[Hashable] = set()

    @property
    def counts(self) -> tuple[int, int]:
        """The number of tasks that run and of those that wait."""
        return len(self._running), len(self._waiting)

    def enter(self, task: Hashable, owner: str) -> asyncio.Future[None]:
        """Let a new task wait; the result is done when it is its turn. `leave` must follow.

        Raises:
            Exception: `share_full` or `full`, if `owner` has its share, or the queue is full.
        """
        own = len(self._lines.get(owner, ()))
        if own >= self._share:
            raise self._share_full(own)
        total = len(self._running) + len(self._waiting)
        if total >= self._most:
            raise self._full(total)
        turn = self._waiting[task] = asyncio.get_running_loop().create_future()
        self.join(task, owner)
        self._next()
        return turn

    def join(self, task: Hashable, owner: str) -> None:
        """Let a task that waits be in the line of `owner`, too."""
        if task in self._waiting:
            self._lines.setdefault(owner, OrderedDict())[task] = None

    def leave(self, task: Hashable) -> None:
        """End a task's turn, or its waiting for one. A task may leave twice."""
        if task in self._waiting:
            self._step_out(task).cancel()
        self._running.discard(task)
        self._next()

    def _next(self) -> None:
        while self._lines and len(self._running) < self._slots:
            owner, line = next(iter(self._lines.items()))
            self._lines.move_to_end(owner)
            task = next(iter(line))
            turn = self._step_out(task)
            if not turn.done():  # a task that was cancelled is about to leave
                self._running.add(task)
                turn.set_result(None)

    def _step_out(self, task: Hashable) -> asyncio.Future[None]:
        for owner, line in list(self._lines.items()):
            line.pop(task, None)
            if not line:
                del self._lines[owner]
        return self._waiting.pop(task)
