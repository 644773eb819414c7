"""Which adapters requests use, and one lock for each. Runs inside vLLM's API server.

vLLM looks an adapter up when a request comes, and tells its core of the request later. The core
dies of a removal in between, which takes the files away, and of two loads of one adapter at once,
which give it two numbers: a batch with both has only one of them in memory.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

# Names the model of a request, so that its body need not be parsed twice.
MODEL_HEADER = "x-weft-model"


class Uses:
    """The requests that name each model, from their arrival to the end of their answers."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()

    def __contains__(self, model: str) -> bool:
        return self._requests[model] > 0

    @contextmanager
    def of(self, model: str) -> Iterator[None]:
        """Count a request of a model."""
        self._requests[model] += 1
        try:
            yield
        finally:
            self._requests[model] -= 1
            if not self._requests[model]:
                del self._requests[model]


class Locks(WeakValueDictionary[str, asyncio.Lock]):
    """A lock for each name: the same one for as long as it is held or awaited."""

    def __getitem__(self, name: str) -> asyncio.Lock:
        lock = self.get(name)
        if lock is None:
            lock = self[name] = asyncio.Lock()
        return lock
