"""Tasks whose result several callers await, and which go on when callers leave."""

import asyncio
from collections.abc import Coroutine
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
