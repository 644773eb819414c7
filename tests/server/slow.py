"""An answer of the fake engine that waits in the middle."""

import asyncio
from collections.abc import AsyncIterator

from server.engine.fake import FakeResponse


class SlowResponse(FakeResponse):
    """A response whose next part waits for an event."""

    def __init__(self, events: bool) -> None:
        kind = "text/event-stream" if events else "application/json"
        super().__init__(200, {"content-type": kind}, [], breaks=False)
        self.go_on = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield one part at once and the other after the event."""
        yield b"data: first\n\n"
        await self.go_on.wait()
        yield b"data: [DONE]\n\n"
