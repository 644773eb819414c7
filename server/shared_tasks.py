"""Work that goes on when those who await it leave."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def shared_task(work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Start work that callers await through `asyncio.shield`.

    When every caller has left, for example because the engine was lost, nobody meets a failure of
    the work. asyncio would log it as an exception that was never retrieved.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_retrieve)
    return task


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def run_or_undo(call: Callable[[], T], undo: Callable[[T], object]) -> T:
    """Run `call` in a thread; if cancelled meanwhile, run `undo` on its result."""
    calling = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.to_thread(undo, await calling)
        raise
