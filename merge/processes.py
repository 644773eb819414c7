"""Work on groups of modules in several processes, forked from this one.

Processes rather than threads: a merge makes many small tensors, and Python's lock let a second
thread win 8 %. Forked rather than spawned: a child starts with torch imported and the ingredients
open. Not covered: what the work is (`run`).
"""

import ctypes
import os
import pickle
import resource
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from merge.errors import ProcessDied

_Result = TypeVar("_Result")
Group = Sequence[str]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_THRESHOLD, _NEVER = 2**25, 2**31 - 1  # glibc takes no larger ones


@dataclass(frozen=True, slots=True)
class _Returned:
    """What the work on a group returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Raised:
    """What the work on a group raised, and where: a traceback does not pickle."""

    error: Exception
    where: str


def over(
    groups: Sequence[Group],
    work: Callable[[Group], _Result],
    done: Callable[[_Result], None],
    *,
    processes: int,
) -> None:
    """Call `done(work(group))` for each group, the work in that many forked children.

    With one process, or one group, the work is done in this process. A forked child has only the
    thread that forked it, so `work` must not wait for another: kernels are set to one thread
    before.

    Args:
        groups: handed out in this order, to whichever child is free.
        work: its results must pickle.
        done: called in this process, in the order in which groups are finished.
        processes: at most so many.

    Raises:
        ProcessDied: a child was killed.
        Exception: the first that `work` or `done` raises, of its own type. The children are gone.
    """
    processes = min(processes, len(groups))
    if processes <= 1:
        for group in groups:
            done(work(group))
        return
    children: list[_Child] = []
    try:
        children.extend(_Child(groups, work, share=processes) for _ in range(processes))
        _hand_out(children, len(groups), done)
    finally:
        for child in children:
            child.end()


def affordable(processes: int, nbytes: int) -> int:
    """Return how many of `processes`, at least 1, fit this process's limit at `nbytes` each."""
    spare = _spare_bytes()
    return processes if spare is None else max(1, min(processes, spare // max(1, nbytes)))


class _Child:
    """A forked process that works on the groups whose numbers it is sent."""

    def __init__(
        self, groups: Sequence[Group], work: Callable[[Group], object], *, share: int
    ) -> None:
        context = get_context("fork")
        self.pipe, pipe = context.Pipe()
        self._process = context.Process(
            target=_answer, args=(pipe, groups, work, os.getpid(), share), daemon=True
        )
        self._process.start()
        pipe.close()  # while it is open here too, the end of the child goes unnoticed

    def give(self, number: int) -> None:
        """Send the number of a group to work on."""
        with suppress(BrokenPipeError):  # the child is dead, which `outcome` tells
            self.pipe.send(number)

    def outcome(self) -> _Returned | _Raised:
        """Return what the child sent.

        Raises:
            ProcessDied: it is dead.
        """
        try:
            received: _Returned | _Raised = self.pipe.recv()
        except (EOFError, OSError):  # no message, or half of one
            self._process.join()
            raise ProcessDied(self._process.exitcode) from None
        return received

    def end(self) -> None:
        """End the child, whatever it is doing, and wait until it is gone."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _hand_out(children: Sequence[_Child], count: int, done: Callable[[Any], None]) -> None:
    numbers = iter(range(count))
    busy: dict[object, _Child] = {}
    for child in children:
        child.give(next(numbers))
        busy[child.pipe] = child
    while busy:
        for pipe in wait([child.pipe for child in busy.values()]):
            child = busy[pipe]
            outcome = child.outcome()
            if isinstance(outcome, _Raised):
                outcome.error.add_note(outcome.where)
                raise outcome.error
            number = next(numbers, None)
            if number is None:
                del busy[pipe]
            else:
                child.give(number)  # before `done`: the child works meanwhile
            done(outcome.value)


def _answer(
    pipe: Connection,
    groups: Sequence[Group],
    work: Callable[[Group], object],
    parent: int,
    share: int,
) -> None:
    """Child entry point: send the outcome of each group that is asked for."""
    _begin(parent, share)
    while True:
        group = groups[pipe.recv()]
        try:
            outcome: _Returned | _Raised = _Returned(work(group))
        except Exception as error:
            outcome = _Raised(_portable(error), "".join(traceback.format_exception(error)))
        pipe.send(outcome)


def _begin(parent: int, share: int) -> None:
    """Set up this process: it ends with its parent, and has its share of the parent's memory."""
    libc = ctypes.CDLL(None)
    # The kernel's own signal: it also ends a child that hangs in native code.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Freed memory stays with the child, which ends soon: new pages for the tensors of each module
    # took a fifth of a merge.
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    spare = _spare_bytes()
    if spare is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_claimed_bytes() + spare // share, hard))


def _portable(error: Exception) -> Exception:
    """Return the error, or its text as another where it does not pickle."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _spare_bytes() -> int | None:
    """Return the memory that this process may still claim; None without a limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else max(0, soft - _claimed_bytes())


def _claimed_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
