"""Work that waits until its calls have paused, such as a search while one types."""

import asyncio
from collections.abc import Awaitable, Callable


class AfterPause:
    """Calls `do` once no further call has come for `seconds`."""

    def __init__(self, do: Callable[[], Awaitable[None]], seconds: float) -> None:
        self._do, self._seconds = do, seconds
        self._waiting: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        """Start the pause anew."""
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(self._seconds)
        self._waiting = None  # from here on a call does not end what it has begun
        await self._do()
