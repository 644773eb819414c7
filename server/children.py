"""Child processes that must not outlive the gateway, even when it was killed with -9."""

import os
import signal
import threading
import time

_POLL_SECONDS = 1.0


def exit_with_parent(parent: int) -> None:
    """Watch the parent from a daemon thread and end this process, politely, when it is gone.

    Args:
        parent: process id of the parent, told by itself: it may be gone before this is called.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="weft-parent-watch", daemon=True).start()
