"""The engine's output: its newest part in memory for error messages, and a file with a size limit.

A thread reads the pipe, so that an engine which writes never waits for the gateway's event loop,
nor for a full disk: what cannot be written is dropped from the file.
"""

import os
import threading
from pathlib import Path

_TAIL_BYTES = 2**20
_READ_BYTES = 2**16
_FILE_BYTES = 50 * 2**20


class EngineOutput:
    """Copies an engine's pipe into a file, which becomes `<name>.1` when it is full.

    Args:
        path: the file. Its folder is created.
        limit_bytes: the size of the file at which a new one is begun; so twice as much disk is
            used at most.
    """

    def __init__(self, path: Path, *, limit_bytes: int = _FILE_BYTES) -> None:
        self.path, self._limit = path, limit_bytes
        self._tail = bytearray()
        self._thread: threading.Thread | None = None

    def copy(self, reader: int) -> None:
        """Copy from the file descriptor `reader` until its other end is closed, then close it."""
        tail = self._tail = bytearray()  # a copier of an earlier start keeps its own
        self._thread = threading.Thread(
            target=self._run, args=(reader, tail), name="engine output", daemon=True
        )
        self._thread.start()

    def tail(self, size: int = _TAIL_BYTES) -> str:
        """Return the end of what the newest start has written, at most `size` bytes."""
        return bytes(self._tail[-size:]).decode(errors="replace")

    def settle(self, seconds: float) -> None:
        """Wait until all output of an engine that has ended is read, or the time is over."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, reader: int, tail: bytearray) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            while data := pipe.read(_READ_BYTES):
                tail += data
                del tail[:-_TAIL_BYTES]
                try:
                    self._write(data)
                except OSError:
                    continue  # the disk is full or gone; the engine must not wait for it

    def _write(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size + len(data) > self._limit:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, data)
        finally:
            os.close(file)
