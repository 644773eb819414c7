"""Admission in worker processes: whatever a stranger's files do to it, the server goes on.

A check has limits of CPU, memory and time. The workers stay warm, so that an import of many small
adapters starts one process. Not covered: the checks themselves (`registry.admission.admit`).
Blocking: call it off the event loop.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, LifoQueue
from threading import Semaphore
from typing import Any, TypeVar

from merge.peft_format import WEIGHTS_NAME
from registry.admission.admit import AdmissionPolicy, Admit, admit
from registry.errors import CheckEnded
from registry.types import AdmissionReport, Base
from server.children import Budget, ChildDied, ChildFailed, ChildTimeout, Worker

T = TypeVar("T")
_AT_ONCE = 2
_WALL_PER_CPU = 10.0  # for machines that have other work
_START = Budget(spare_bytes=2**32, cpu_seconds=60)
_log = logging.getLogger("weft.server")


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """What the check of one adapter may take; more for each GiB of its weights.

    An adapter of usual size takes a tenth of it. The limit of wall-clock time is ten times that of
    CPU time.
    """

    cpu_seconds: float = 30.0
    cpu_seconds_per_gib: float = 60.0
    spare_bytes: int = 2**30

    def budget(self, nbytes: int) -> Budget:
        """Return the limits for weights of so many bytes."""
        seconds = self.cpu_seconds + self.cpu_seconds_per_gib * nbytes / 2**30
        return Budget(self.spare_bytes + nbytes, math.ceil(seconds))


class AdmissionWorkers:
    """Checks adapters as `admit` does, in processes that start when they are first needed.

    Args:
        admit: the check; a module's function, so that it pickles.
        limits: of one check.
    """

    def __init__(self, admit: Admit = admit, limits: CheckLimits | None = None) -> None:
        self._admit, self._limits = admit, limits or CheckLimits()
        self._free = Semaphore(_AT_ONCE)
        self._warm: LifoQueue[Worker] = LifoQueue()

    def __call__(
        self, path: Path, base: Base | None, policy: AdmissionPolicy, *, known: Sequence[Base] = ()
    ) -> AdmissionReport:
        """Return the report of `registry.admission.admit.admit`.

        Raises:
            CheckEnded: the check took too long or too much memory, or its process was killed.
            OSError: a file in the folder cannot be read.
        """
        budget = self._limits.budget(min(_weights_bytes(path), policy.max_bytes))
        with self._worker() as worker:
            return _checked(worker, budget, self._admit, path, base, policy, known)

    def close(self) -> None:
        """End the processes that no check uses."""
        with suppress(Empty):
            while True:
                self._warm.get_nowait().reap()

    @contextmanager
    def _worker(self) -> Iterator[Worker]:
        """Yield a worker of one's own, a warm one if there is; one that failed is not used again.

        A check that raised may have left the memory of its worker full.
        """
        with self._free:
            try:
                worker, new = self._warm.get_nowait(), False
            except Empty:
                worker, new = Worker(), True
            try:
                if new:  # it imports first: that takes seconds, which are not the check's
                    _call(worker, _START, _import, self._admit)
                yield worker
            except OSError:  # of the folder
                self._warm.put(worker)
                raise
            except BaseException:
                worker.reap()
                raise
            self._warm.put(worker)


# One for the process: commands and tests open many registries.
admission_workers = AdmissionWorkers()


def _checked(worker: Worker, budget: Budget, *args: Any) -> AdmissionReport:
    """Return what `admit` returns in a worker.

    Raises:
        CheckEnded, OSError: as `AdmissionWorkers`.
    """
    result = _call(worker, budget, _examine, *args)
    if isinstance(result, MemoryError):
        raise CheckEnded(f"it needed more than {budget.spare_bytes} bytes of memory")
    if isinstance(result, OSError):
        raise result
    return result


def _call(worker: Worker, budget: Budget, function: Callable[..., T], *args: object) -> T:
    wall = _WALL_PER_CPU * budget.cpu_seconds
    try:
        return worker.call(function, *args, seconds=wall, budget=budget)
    except ChildTimeout:
        raise CheckEnded(f"it took longer than {wall:g} s") from None
    except ChildDied as error:
        limit = f"its process reached the limit of {budget.cpu_seconds} s of CPU or was killed"
        raise CheckEnded(f"{limit} ({error})") from None
    except ChildFailed as error:  # a fault of ours
        _log.error("the check of an adapter failed: %s", error.reason)
        raise CheckEnded(f"it failed with {error.reason}") from None


def _import(admit: Admit) -> None:
    """Do nothing: the module of `admit` is imported when the call arrives."""


def _weights_bytes(folder: Path) -> int:
    try:
        return (folder / WEIGHTS_NAME).lstat().st_size
    except OSError:
        return 0  # admission says so


def _examine(
    admit: Admit, path: Path, base: Base | None, policy: AdmissionPolicy, known: Sequence[Base]
) -> AdmissionReport | OSError | MemoryError:
    try:
        return admit(path, base, policy, known=known)
    except (OSError, MemoryError) as error:
        return error
