"""A job's process as its parent sees it: started, listened to, killed. All but `kill` blocks.

Messages come through a pipe. A second one is the child's lifeline: it breaks when this process is
gone, however it ended, and then so is the child.
"""

import multiprocessing
from collections.abc import Iterator

from registry.jobs.types import Note
from server.jobs import worker
from server.jobs.failures import Failure, JobFailed
from server.jobs.worker import Done, Entry, Task


class WorkerDied(Exception):
    """A job's process ended without a word: it was killed."""

    def __init__(self, code: int | None) -> None:
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        super().__init__(f"its process ended {how}, perhaps for want of memory")


class Process:
    """One running process of a job."""

    def __init__(self, entry: Entry, task: Task) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit locks that are held
        self._messages, sender = context.Pipe(duplex=False)
        held, self._lifeline = context.Pipe(duplex=False)
        self._child = context.Process(
            target=worker.run, args=(sender, held, entry, task), daemon=True, name="weft job"
        )
        self._child.start()
        # The child's ends: as long as they are open here too, nobody learns that it is gone.
        sender.close()
        held.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self._child.pid or 0)

    def messages(self) -> Iterator[Note]:
        """Yield what it tells until it has come to its end.

        Raises:
            JobFailed: it said why it cannot go on.
            WorkerDied: it was killed.
        """
        while True:
            try:
                message = self._messages.recv()
            except (EOFError, OSError):  # nothing, or half a message
                self._child.join()
                raise WorkerDied(self._child.exitcode) from None
            if isinstance(message, Done):
                return
            if isinstance(message, Failure):
                raise JobFailed(message)
            assert isinstance(message, Note), message
            yield message

    def kill(self) -> None:
        """End it now, whatever it is doing; does not wait."""
        self._child.kill()

    def reap(self) -> None:
        """End it and wait until it is gone."""
        self._child.kill()
        self._child.join()
        self._lifeline.close()
        self._messages.close()
