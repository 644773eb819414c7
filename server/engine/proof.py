"""The proof that an engine is fit to serve, which comes before its first request."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from server.engine.link import Endpoint

Prove: TypeAlias = Callable[[Endpoint], Awaitable[None]]


class EngineStartFailed(Exception):
    """The engine did not start; the message has the cause."""


async def proven(prove: Prove, endpoint: Endpoint, seconds: float) -> None:
    """Call `prove`; raise EngineStartFailed if it raises any exception, or takes too long."""
    try:
        async with asyncio.timeout(seconds) as limit:
            await prove(endpoint)
    except Exception as error:
        reason = f"it was not proven within {seconds:.0f} s" if limit.expired() else str(error)
        raise EngineStartFailed(f"the engine came up but is not fit: {reason}") from error
