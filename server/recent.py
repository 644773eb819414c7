"""Answers of the last 30 seconds, for the time in which the database cannot be reached.

A database that restarts, or a network that is cut, takes half a minute. What a caller was answered
shortly before, it is answered again: the key includes the caller, so that permissions hold. Only an
unreachable database is bridged: a busy or slow one refuses, as otherwise load would lengthen the
life of revoked rights.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.storage.errors import DatabaseUnreachable

V = TypeVar("V")
BRIDGED_SECONDS = 30.0
_RETRY_SECONDS = 1.0
_ENTRIES = 2000


@dataclass(frozen=True, slots=True)
class _Answer(Generic[V]):
    value: V
    at: float


class Recent(Generic[V]):
    """Remembers answers by key. Threads may share one instance."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: OrderedDict[Hashable, _Answer[V]] = OrderedDict()
        self._lock = threading.Lock()
        self._ask_again_at = 0.0

    def ask(self, key: Hashable, call: Callable[[], V]) -> V:
        """Return what `call` returns, or its last answer if the database cannot be reached.

        After a failure the database is asked again only after a second: each try may wait for a
        connection, and requests with an answer need not wait, too.

        Raises:
            DatabaseUnreachable: `call` raises it, and no answer is younger than 30 seconds.
        """
        asked = self._clock()
        if asked < self._ask_again_at and (answer := self._recent(key)) is not None:
            return answer.value
        try:
            value = call()
        except DatabaseUnreachable:
            self._ask_again_at = self._clock() + _RETRY_SECONDS
            answer = self._recent(key)
            if answer is None:
                raise
            return answer.value
        self._store(key, _Answer(value, asked))
        return value

    def keep(self, key: Hashable, value: V) -> None:
        """Remember an answer that is known otherwise."""
        self._store(key, _Answer(value, self._clock()))

    def _recent(self, key: Hashable) -> _Answer[V] | None:
        with self._lock:
            answer = self._answers.get(key)
        if answer is None or self._clock() - answer.at > BRIDGED_SECONDS:
            return None
        return answer

    def _store(self, key: Hashable, answer: _Answer[V]) -> None:
        with self._lock:
            self._answers[key] = answer
            self._answers.move_to_end(key)
            if len(self._answers) > _ENTRIES:
                self._answers.popitem(last=False)
