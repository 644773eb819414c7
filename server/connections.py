"""Time limits of connections that uvicorn lacks: for the head of a request, and for a stuck reader.

A connection without a running request must send a whole head in time; uvicorn's keep-alive limits
only the silence before its first byte. A client that reads nothing while data waits for it is cut
off: its request sees a disconnect and ends, so it releases what it holds.
"""

import asyncio
import fcntl
import struct
import termios
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def limited_protocol(*, header_seconds: float, write_idle_seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with two time limits.

    Args:
        header_seconds: limit for the head of a request, from the connection's or its first byte.
        write_idle_seconds: limit for the time in which a client reads nothing.
    """
    limits = {"header_seconds": header_seconds, "write_idle_seconds": write_idle_seconds}
    return cast(
        "type[asyncio.Protocol]", type("LimitedProtocol", (_Limited, AutoHTTPProtocol), limits)
    )


class _Limited(asyncio.Protocol):
    """The time limits, to be mixed into a protocol of uvicorn."""

    header_seconds: float
    write_idle_seconds: float
    transport: asyncio.Transport
    cycle: Any  # uvicorn's current request and response, or None

    _head: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect a head."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Expect the rest of a head that has begun."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._cancel()
        elif self._head is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        super().connection_lost(exc)
        self._cancel()
        if self._writing is not None:
            self._writing.cancel()

    def pause_writing(self) -> None:
        """Watch whether the client reads."""
        super().pause_writing()
        self._watch(_unread_bytes(self.transport))

    def resume_writing(self) -> None:
        """Stop watching: the client has read."""
        if self._writing is not None:
            self._writing.cancel()
        super().resume_writing()

    def _expect_head(self) -> None:
        loop = asyncio.get_running_loop()
        self._head = loop.call_later(self.header_seconds, self.transport.abort)

    def _cancel(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _watch(self, size_before: int) -> None:
        loop = asyncio.get_running_loop()
        self._writing = loop.call_later(self.write_idle_seconds, self._look, size_before)

    def _look(self, size_before: int) -> None:
        size = _unread_bytes(self.transport)
        if size < size_before:
            self._watch(size)
        else:
            self.transport.abort()


def _unread_bytes(transport: asyncio.Transport) -> int:
    """Return the bytes that the client has not received, the kernel's megabytes included."""
    connection = transport.get_extra_info("socket")
    try:
        (queued,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:  # it is closed
        queued = 0
    return transport.get_write_buffer_size() + int(queued)
