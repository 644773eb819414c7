"""Which adapters requests are about to use, and one lock for each. Runs inside vLLM's API server.

vLLM looks an adapter up when a request comes, and tells its core of the request later. The core
dies of a removal in between, which takes the files away, and of two loads of one adapter at once,
which give it two numbers: a batch with both has only one of them in memory.
"""

import asyncio
from collections import Counter
from weakref import WeakValueDictionary

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Names the model of a request, so that its body need not be parsed twice.
MODEL_HEADER = "x-weft-model"


class Arrivals:
    """The requests that have come and whose answers have not begun, by model.

    Those whose answers have begun are known to the engine.
    """

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    def __contains__(self, model: str) -> bool:
        return self._waiting[model] > 0

    async def answer(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, model: str
    ) -> None:
        """Have `app` answer a request, which counts until the first byte of the answer's body."""
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._waiting[model] -= 1
                if not self._waiting[model]:
                    del self._waiting[model]

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.body":
                begin()
            await send(message)

        self._waiting[model] += 1
        try:
            await app(scope, receive, noted)
        finally:
            begin()


class Locks(WeakValueDictionary[str, asyncio.Lock]):
    """A lock for each name: the same one for as long as anybody holds or awaits it."""

    def __getitem__(self, name: str) -> asyncio.Lock:
        lock = self.get(name)
        if lock is None:
            lock = self[name] = asyncio.Lock()
        return lock
