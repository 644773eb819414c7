"""The newest requests for inference of this gateway, in memory: who asked, for what, how it went.

What a request is known by is its record: neither its body nor its key.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from registry.callers import Caller
from server.telemetry import record
from server.telemetry.record import RequestRecord

MOST = 1000
Outcome: TypeAlias = Literal["done", "refused", "failed", "left"]


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """A request whose answer has ended; status 0: its client left before the answer began."""

    path: str
    status: int
    seconds: float
    first_byte_seconds: float | None  # None: there was no answer of 200
    record: RequestRecord
    at: float = field(default_factory=time.time)  # seconds since 1970

    @property
    def outcome(self) -> Outcome:
        """The class of its status."""
        return outcome_of(self.status)


def outcome_of(status: int) -> Outcome:
    """Return the class of a status: done, refused, failed, or left by the client."""
    if status == 0:
        return "left"
    return "done" if status < 400 else "refused" if status < 500 else "failed"


class RecentRequests:
    """The newest requests. For one event loop."""

    def __init__(self) -> None:
        self._ended: deque[EndedRequest] = deque(maxlen=MOST)

    def add(self, path: str, status: int, seconds: float, first_byte: float | None) -> None:
        """Remember the request that this task works for."""
        request = record.current()
        if request is not None:
            self._ended.append(EndedRequest(path, status, seconds, first_byte, request))

    def newest(self, caller: Caller) -> Iterator[EndedRequest]:
        """Yield those that the caller may see, newest first: an admin's keys', or its own."""
        for ended in reversed(self._ended):
            if caller.operates or _is_of(caller, ended.record):
                yield ended


def _is_of(caller: Caller, request: RequestRecord) -> bool:
    if caller.role == "admin" and caller.namespace:
        return request.namespace == caller.namespace
    return request.caller == caller.name
