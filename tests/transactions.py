"""Watches write transactions: in one, nothing encodes a text, opens a file or calls the network.

SQLite has one write lock, so a transaction that waits for anything else stops every other writer.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.callers import LOCAL, Caller
from registry.search.encoder import HashingEncoder
from registry.storage.database import Database, WriteSession

_EVENTS = frozenset(
    {"open", "os.rename", "os.remove", "os.listdir", "os.scandir", "socket.connect",
     "socket.getaddrinfo", "subprocess.Popen"}
)  # fmt: skip
# Modules may be imported in a transaction, once in the life of a process.
_CODE = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]))
_thread = threading.local()
longest_cpu_seconds = [0.0]


class WaitsInTransaction(AssertionError):
    """Something waits for a file, the network or a model while a transaction holds its lock."""


def _refuse(what: str) -> None:
    if getattr(_thread, "writes", False):
        raise WaitsInTransaction(what)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS and getattr(_thread, "writes", False):
        subject = str(arguments[0]) if arguments else ""
        if not subject.startswith(_CODE):
            _refuse(f"{event} {subject}")


sys.addaudithook(_audit)


def watch_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make encoding, files and network in a write transaction an error, until the test ends."""
    transaction, encode = Database.transaction, HashingEncoder.encode
    longest_cpu_seconds[0] = 0.0

    @contextmanager
    def watched(self: Database, caller: Caller = LOCAL, **options: bool) -> Iterator[WriteSession]:
        with transaction(self, caller, **options) as session:
            _thread.writes, began = True, time.thread_time()
            try:
                yield session
            finally:
                _thread.writes = False
                spent = time.thread_time() - began
                longest_cpu_seconds[0] = max(longest_cpu_seconds[0], spent)

    def outside(self: HashingEncoder, texts: Any) -> Any:
        _refuse("encoding")
        return encode(self, texts)

    monkeypatch.setattr(Database, "transaction", watched)
    monkeypatch.setattr(HashingEncoder, "encode", outside)
