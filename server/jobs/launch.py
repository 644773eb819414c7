"""What a job learns in: a child process of this machine, unless a cluster has other places."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from registry.jobs.types import Note
from server.children import Child
from server.jobs import worker
from server.jobs.failures import failure_of
from server.jobs.storage import JobStorage
from server.jobs.worker import Entry, WorkerSpec


class LearningChild(Protocol):
    """A process that learns for one job. All methods but `kill` block."""

    def messages(self) -> Iterator[Note]:
        """Yield what it sends until it has finished.

        Raises:
            ChildFailed: the learning raised; `reason` is a `Failure`.
            ChildDied: the process was killed.
        """
        ...

    def kill(self) -> None:
        """End it now. Does not wait."""
        ...

    def reap(self) -> None:
        """End it and wait until it is gone."""
        ...


# Starts a process: of which function, with what, with which environment variables, and from where
# other machines get the job's files.
Launch: TypeAlias = Callable[[Entry, WorkerSpec, tuple[str, ...], JobStorage], LearningChild]


def launch_here(
    entry: Entry, spec: WorkerSpec, names: tuple[str, ...], _storage: JobStorage | None = None
) -> Child[Note]:
    """Start a process of this machine, in the folders of `spec`."""
    return Child(worker.run, entry, spec, nice=worker.NICE, names=names, explain=failure_of)
