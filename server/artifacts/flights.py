"""One build of a recipe at a time among the gateways of one database.

The gateway that builds holds a lock, which ends with its connection to the database. The others
wait for the lock, and then find what was built. One that has waited for as long as a build may take
builds too, and so does one that cannot ask the database: the artifact that is recorded first
answers, however many are built.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from registry.storage.advisory import AdvisoryLocks
from registry.storage.errors import DatabaseUnavailable
from server.shared_tasks import run_or_undo

_LOOK_SECONDS, _LOOK_SECONDS_MOST = 0.02, 0.25
_log = logging.getLogger("weft.server")


class Flights:
    """Which recipes this gateway builds, and which others do. Use it on one event loop.

    Args:
        locks: of the database.
        look: returns the artifact of a recipe that is built, or None; may block.
        patience: the longest wait for another gateway's build, in seconds.
    """

    def __init__(
        self, locks: AdvisoryLocks, look: Callable[[str], str | None], patience: float
    ) -> None:
        self._locks, self._look, self._patience = locks, look, patience

    async def begin(self, recipe: str) -> bool:
        """Return whether this gateway may build a recipe now; `end` must follow if it may."""
        if not self._locks.shared:
            return True
        try:
            return await run_or_undo(
                lambda: self._locks.take(recipe), lambda _: self._locks.release(recipe)
            )
        except DatabaseUnavailable as error:
            _log.info("building %s beside other gateways, perhaps: %s", recipe[:12], error)
            return True

    async def wait(self, recipe: str) -> None:
        """Return once another gateway's build has ended, or has taken too long; `end` follows."""
        pause = _LOOK_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while not await self.begin(recipe):
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LOOK_SECONDS_MOST)

    async def built(self, recipe: str) -> str | None:
        """Return the artifact of a recipe if another gateway has built it by now."""
        if not self._locks.shared:
            return None
        with suppress(DatabaseUnavailable):
            return await asyncio.to_thread(self._look, recipe)
        return None

    async def end(self, recipe: str) -> None:
        """Let other gateways build a recipe, if this one did."""
        if self._locks.shared:
            await asyncio.to_thread(self._locks.release, recipe)
