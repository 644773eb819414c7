"""Child processes: one function in a process of its own, which ends when its parent does.

A child gets two pipes. Through the first it sends typed messages, and last whether it finished or
why not. The second is its lifeline: nothing is ever sent through it, but the system closes it when
the parent is gone, even after `kill -9`, and the child then ends at once. A `Worker` is a child
that stays and computes one call after the other. All calls but `kill` block; call them off the
event loop. The pool of merge workers (`server.artifacts.build`) and the engine
(`server.engine.process`) use the lifeline alone.
"""

import math
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, Self, TypeAlias, TypeVar

from server.environment import keep_allowed

T = TypeVar("T")
# What a child sends of the exception that ended it; runs in the child.
Explain: TypeAlias = Callable[[Exception], Any]
# Nice level, below a serving engine. While merges of Llama-3.2-1B's shapes run, the 99th percentile
# between a stream's chunks is 1.0 to 1.3 times that without them in front of a stub engine, and 1.5
# to 1.7 where vLLM computes on the same two cores; beside a process that takes all cores such a
# merge takes 5 s in place of 2. At 19, and as SCHED_IDLE, it had not ended there after 100 s.
BESIDE_ENGINE = 5
_REASON_CHARACTERS = 500
_OOM_SCORE = 800  # of 1000, the first to go


class ChildTimeout(Exception):
    """A child sent nothing for longer than it may."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"it took longer than {seconds:g} s")


class ChildDied(Exception):
    """A child ended without a last message: it was killed."""

    def __init__(self, code: int | None) -> None:
        self.code = code
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        super().__init__(f"its process ended {how}, perhaps because memory ran out")


class ChildFailed(Exception):
    """A child's function raised; `reason` is what `Explain` made of the exception."""

    def __init__(self, reason: Any) -> None:
        self.reason = reason
        super().__init__(str(reason))


@dataclass(frozen=True, slots=True)
class _Done:
    """The last message of a child whose function returned."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """The last message of a child whose function raised."""

    reason: Any


@dataclass(frozen=True, slots=True)
class _Returned:
    """What a call of a worker returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Budget:
    """What one call may take: memory beyond what the child has already, and CPU time."""

    spare_bytes: int
    cpu_seconds: int


def sentence_of(error: Exception) -> str:
    """Return an exception's type and message, at most 500 characters."""
    return f"{type(error).__name__}: {error}"[:_REASON_CHARACTERS]


class Child(Generic[T]):
    """A running child whose messages are `T`. As a context it is ended on leaving.

    Args:
        entry: called in the child as `entry(*args, send)`; a module's function, so that it pickles.
        args: its arguments; they must pickle.
        nice: how far the child's priority is below this process's.
        names: environment variables that it may read beside those of `server.environment`.
        explain: makes `ChildFailed.reason` of what `entry` raises; must pickle, and its result too.
    """

    def __init__(
        self,
        entry: Callable[..., None],
        *args: object,
        nice: int = BESIDE_ENGINE,
        names: tuple[str, ...] = (),
        explain: Explain = sentence_of,
    ) -> None:
        # Not a fork: it would inherit locks that other threads of this process hold.
        context = multiprocessing.get_context("spawn")
        self._messages, sender = context.Pipe(duplex=False)
        lifeline, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run, args=(sender, lifeline, nice, names, explain, entry, args), daemon=True
        )
        self._process.start()
        # The child's ends. While they are open here too, the end of the child goes unnoticed.
        sender.close()
        lifeline.close()

    def messages(self, seconds: float | None = None) -> Iterator[T]:
        """Yield what the child sends until its function returns.

        Args:
            seconds: the longest wait for each message; None waits for ever.

        Raises:
            ChildFailed: the function raised.
            ChildDied: the process was killed.
            ChildTimeout: no message came within `seconds`; the child still runs.
        """
        while True:
            if not self._messages.poll(seconds):
                raise ChildTimeout(seconds or 0.0)
            try:
                message = self._messages.recv()
            except (EOFError, OSError):  # no message, or half of one
                self._process.join()
                raise ChildDied(self._process.exitcode) from None
            if isinstance(message, _Done):
                return
            if isinstance(message, _Failed):
                raise ChildFailed(message.reason)
            yield message

    def kill(self) -> None:
        """End the child now, whatever it is doing. Does not wait."""
        self._process.kill()

    def reap(self) -> None:
        """End the child and wait until it is gone."""
        self._process.kill()
        self._process.join()
        self._lifeline.close()
        self._messages.close()

    def __enter__(self) -> Self:
        """Return the child."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child and wait until it is gone."""
        self.reap()


def call(
    function: Callable[..., T], *args: object, seconds: float, explain: Explain = sentence_of
) -> T:
    """Return `function(*args)`, computed in a child.

    Raises:
        ChildFailed, ChildDied, ChildTimeout: as `Child.messages`; the child is gone.
    """
    with Child[T](_answer, function, args, explain=explain) as child:
        return next(child.messages(seconds))


class Worker:
    """A child that answers calls, one at a time, each within limits of its own.

    After `ChildTimeout` or `ChildDied` it is gone, and so it is after `reap`.
    """

    def __init__(self) -> None:
        # The child gets the reading end, and with it the end of the calls when this one is closed.
        calls, self._calls = multiprocessing.get_context("spawn").Pipe(duplex=False)
        self._child = Child[Any](_answer_all, calls)
        calls.close()

    def call(self, function: Callable[..., T], *args: object, seconds: float, budget: Budget) -> T:
        """Return `function(*args)`, computed in the child.

        Raises:
            ChildFailed: it raised, perhaps MemoryError at the limit of `budget`; the child lives.
            ChildDied, ChildTimeout: as `Child.messages`; the child is gone.
        """
        try:
            self._calls.send((function, args, budget))
            outcome: _Returned | _Failed = next(self._child.messages(seconds))
        except (ChildDied, ChildTimeout):
            self.reap()
            raise
        except OSError:  # it died while it waited, and nobody reads the call
            self.reap()
            raise ChildDied(None) from None
        if isinstance(outcome, _Failed):
            raise ChildFailed(outcome.reason)
        value: T = outcome.value
        return value

    def reap(self) -> None:
        """End the child and wait until it is gone."""
        self._child.reap()
        self._calls.close()


def begin(lifeline: Connection, nice: int = BESIDE_ENGINE, names: tuple[str, ...] = ()) -> None:
    """Set up this process as a child: lifeline, priority, and what all children have in common."""
    end_with(lifeline, lambda: os._exit(1))
    keep_allowed(names)
    os.nice(nice)
    # Where memory runs out, the system ends a child rather than the engine or the gateway.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    # Before torch is imported: OpenMP threads that spin while they wait take the cores on which
    # the engine computes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle


def end_with(lifeline: Connection, end: Callable[[], object]) -> None:
    """Call `end` from a daemon thread when the other end of `lifeline` is closed."""

    def watch() -> None:
        with suppress(EOFError, OSError):
            lifeline.recv()
        end()

    threading.Thread(target=watch, name="weft-lifeline", daemon=True).start()


def limit_memory(spare_bytes: int) -> None:
    """Limit this process's address space, for good, to what it has now and `spare_bytes`."""
    most = _claimed_bytes() + spare_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def limit(*, spare_bytes: int, file_bytes: int, cpu_seconds: int) -> None:
    """Limit this process for good, before it handles data that is not trusted.

    Args:
        spare_bytes: the memory that it may claim beyond what it has now, so import first.
        file_bytes: the size of a file that it writes.
        cpu_seconds: its CPU time, after which the system kills it.
    """
    limit_memory(spare_bytes)
    for kind, most in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _claimed_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _allow(budget: Budget) -> None:
    """Limit this process until the next call: soft limits, which it may raise again."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime) + budget.cpu_seconds
    for kind, most in (
        (resource.RLIMIT_AS, _claimed_bytes() + budget.spare_bytes),
        (resource.RLIMIT_CPU, seconds),  # beyond it the system ends the process
    ):
        _, hard = resource.getrlimit(kind)
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (soft, hard))


def _run(
    sender: Connection,
    lifeline: Connection,
    nice: int,
    names: tuple[str, ...],
    explain: Explain,
    entry: Callable[..., None],
    args: tuple[object, ...],
) -> None:
    """Child entry point: run `entry`, then send `_Done` or `_Failed`."""
    begin(lifeline, nice, names)
    last: object = _Done()
    try:
        entry(*args, sender.send)
    except Exception as error:
        last = _Failed(explain(error))
    with suppress(BrokenPipeError):  # the parent does not listen any more
        sender.send(last)


def _answer(
    function: Callable[..., T], args: tuple[object, ...], send: Callable[[T], None]
) -> None:
    send(function(*args))


def _answer_all(calls: Connection, send: Callable[[object], None]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            function, args, budget = calls.recv()
        except EOFError:  # no more calls
            return
        _allow(budget)
        try:
            outcome: _Returned | _Failed = _Returned(function(*args))
        except Exception as error:
            outcome = _Failed(sentence_of(error))
        send(outcome)
