"""Server-sent events of an answer, one by one as they come."""

from collections.abc import AsyncIterator

import httpx

from server.sse import Event, parse


async def events_of(answer: httpx.Response) -> AsyncIterator[Event]:
    """Yield the events of a stream; one that the stream's end cuts off is left out."""
    block = list[str]()
    async for line in answer.aiter_lines():
        block.append(line)
        if not line:
            for event in parse(block):
                yield event
            block.clear()
