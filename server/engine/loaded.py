"""What the engine has in memory, remembered while nothing can change it. Runs in vLLM's API server.

A worker of vLLM that was asked spins for a second before it waits (`SpinCondition` in its
`shm_broadcast.py`), so one that is asked every second takes a whole core for ever.
"""

import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from typing import Any

# An engine takes a step or two to abort the request of a client that has left.
_SETTLE_SECONDS = 2.0
# So old an answer is not believed: a worker that hangs beside a core that lives is found by asking.
_OLD_SECONDS = 30.0


class Loaded:
    """The numbers of the adapters in an engine's memory; requests that may change them are told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changing = 0  # requests
        self._changed_at = clock()
        self._known: Set[int] = frozenset()
        self._known_at = -_OLD_SECONDS

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Say that a request runs that may load or remove adapters."""
        self._changing += 1
        try:
            yield
        finally:
            self._changing -= 1
            self._changed_at = self._clock()

    async def numbers(self, engine_client: Any) -> Set[int]:
        """Return the numbers; the answer has passed through the engine's core in any case.

        Raises:
            whatever vLLM raises of a core that is dead.
        """
        now = self._clock()
        settled = not self._changing and self._known_at > self._changed_at + _SETTLE_SECONDS
        if settled and now < self._known_at + _OLD_SECONDS:
            await engine_client.is_sleeping()
        else:
            self._known, self._known_at = await engine_client.list_loras(), now
        return self._known
