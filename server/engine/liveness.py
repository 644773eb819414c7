"""Whether an engine answers through its core.

vLLM's own /health stays 200 while its core hangs: it only says whether the core's process has died.
A list of the adapters has to pass through the core, so that is what weft asks for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from server.engine.link import Endpoint

_PATH = "/weft/adapters"
_HEADERS = {"accept-encoding": "identity"}  # as the relay's connections leave bytes as they come


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an engine does not answer as it should; `status` is that of its answer, if one came."""

    reason: str
    status: int | None = None


async def ask_core(
    http: aiohttp.ClientSession, endpoint: Endpoint, seconds: float
) -> Problem | None:
    """Return None if the engine's core answers within `seconds`, or else what is wrong."""
    try:
        async with asyncio.timeout(seconds):
            headers = _HEADERS | endpoint.headers
            async with http.get(
                endpoint.url + _PATH, headers=headers, allow_redirects=False
            ) as answer:
                status, body = answer.status, await answer.read()
    except TimeoutError:
        return Problem(f"its core does not answer within {seconds:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Problem(f"it does not answer: {error!r}")
    if status != 200:
        return Problem(f"it answers {status}: {body[:200].decode(errors='replace')!r}", status)
    return None


async def until_lost(
    ask: Callable[[], Awaitable[Problem | None]], *, misses: int, pause_seconds: float
) -> Problem:
    """Call `ask` again and again; return the last problem after `misses` problems in a row.

    One problem does not mean a lost engine: a long prefill delays an answer.
    """
    missed = 0
    while True:
        problem = await ask()
        missed = 0 if problem is None else missed + 1
        if problem is not None and missed >= misses:
            return problem
        await asyncio.sleep(pause_seconds)
