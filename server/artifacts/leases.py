"""Leases: which requests use which artifact.

A request holds a lease from before it looks for the files until its last byte. A removal waits for
all leases of a digest and refuses new ones meanwhile. For one event loop; nothing is stored.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class LeaseBusy(Exception):
    """An artifact is in use by `holders` requests."""

    def __init__(self, digest: str, holders: int) -> None:
        self.digest, self.holders = digest, holders
        super().__init__(f"artifact {digest} is in use by {holders} requests; try again later")


class _Entry:
    """The state of one digest, kept only while a task holds or waits for it."""

    def __init__(self) -> None:
        self.holders = 0
        self.visitors = 0  # tasks inside `hold` or `exclusive`, waiting ones included
        self.exclusive = False
        self.changed = asyncio.Condition()


class Leases:
    """Shared holds on digests, and exclusive ones for removal."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def total(self) -> int:
        """Return the number of leases that are held."""
        return sum(entry.holders for entry in self._entries.values())

    def held(self) -> dict[str, int]:
        """Return the number of leases of each digest that has any."""
        return {digest: entry.holders for digest, entry in self._entries.items() if entry.holders}

    @asynccontextmanager
    async def hold(self, digest: str) -> AsyncIterator[None]:
        """Hold a lease of `digest` in this context; waits while the digest is being removed."""
        with self._visit(digest) as entry:
            async with entry.changed:
                await entry.changed.wait_for(lambda: not entry.exclusive)
                entry.holders += 1
            try:
                yield
            finally:
                # No await before the decrement: a cancelled request must still release.
                entry.holders -= 1
                _wake(entry)

    @asynccontextmanager
    async def exclusive(self, digest: str, *, wait_seconds: float) -> AsyncIterator[None]:
        """Refuse new leases of `digest` in this context, and wait until none is held.

        Raises:
            LeaseBusy: in use after `wait_seconds`, or another removal runs.
        """
        with self._visit(digest) as entry:
            if entry.exclusive:
                raise LeaseBusy(digest, entry.holders)
            entry.exclusive = True
            try:
                await self._drain(digest, entry, wait_seconds)
                yield
            finally:
                entry.exclusive = False
                _wake(entry)

    async def _drain(self, digest: str, entry: _Entry, wait_seconds: float) -> None:
        try:
            async with asyncio.timeout(wait_seconds), entry.changed:
                await entry.changed.wait_for(lambda: entry.holders == 0)
        except TimeoutError:
            raise LeaseBusy(digest, entry.holders) from None

    def _visit(self, digest: str) -> "_Visit":
        return _Visit(self._entries, digest)


class _Visit:
    """Keeps an entry while a task is inside it; the table would grow for ever otherwise."""

    def __init__(self, entries: dict[str, _Entry], digest: str) -> None:
        self._entries, self._digest = entries, digest

    def __enter__(self) -> _Entry:
        entry = self._entries.setdefault(self._digest, _Entry())
        entry.visitors += 1
        return entry

    def __exit__(self, *_: object) -> None:
        entry = self._entries[self._digest]
        entry.visitors -= 1
        if entry.visitors == 0:
            del self._entries[self._digest]


_wakers: set[asyncio.Task[None]] = set()


def _wake(entry: _Entry) -> None:
    """Wake the tasks that wait on `entry`, without an await: the caller may be cancelled."""

    async def notify() -> None:
        async with entry.changed:
            entry.changed.notify_all()

    task = asyncio.get_running_loop().create_task(notify())
    _wakers.add(task)  # the loop keeps weak references only
    task.add_done_callback(_wakers.discard)
