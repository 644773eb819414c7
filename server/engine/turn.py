"""One self-test at a time on the engines of one folder of artifacts.

Two gateways may share an engine, and then they share the folder that it loads from. Each test would
pass beside the other, but fills every slot, so that each would make the other slow.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_NAME = ".selftest.lock"
_POLL_SECONDS = 0.1
_log = logging.getLogger("weft.engine")


@asynccontextmanager
async def turn(artifacts: Path, seconds: float) -> AsyncIterator[None]:
    """Hold the folder's advisory lock, which the system releases when its holder dies.

    Args:
        artifacts: the folder that the engine loads from; it exists.
        seconds: how long to wait for others; after that the test runs beside theirs.
    """
    lock = os.open(artifacts / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            async with asyncio.timeout(seconds):
                while not _taken(lock):
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            _log.warning("another self-test holds %s for %g s", artifacts / _NAME, seconds)
        yield
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
