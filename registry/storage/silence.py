"""What is known of a database server that does not answer, for all threads of a process.

Each call to it would hold a thread for seconds. After the first one every other call fails at once,
and one thread asks the server until it answers again.
"""

import threading
from collections.abc import Callable

from registry.storage.errors import DatabaseSilent

ASK_AGAIN_SECONDS = 1.0


class Silence:
    """Whether a server is silent. Threads share one instance.

    Args:
        ask: connects to the server. Raises TimeoutError: it is still silent.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._closed = threading.Event()

    def check(self) -> None:
        """Raise DatabaseSilent if the server is silent."""
        reason = self._reason
        if reason is not None:
            raise DatabaseSilent(reason)

    def begin(self, reason: str) -> None:
        """Remember that the server is silent, until a thread of its own finds that it answers."""
        with self._lock:
            known, self._reason = self._reason is not None, reason
        if not known and not self._closed.is_set():
            threading.Thread(target=self._wait, name="weft-silence", daemon=True).start()

    def close(self) -> None:
        """Stop asking."""
        self._closed.set()

    def _wait(self) -> None:
        while not self._closed.wait(ASK_AGAIN_SECONDS):
            try:
                self._ask()
            except TimeoutError:
                continue
            break
        self._reason = None
