"""Processes of a merge: results and errors come back whole, and no child outlives its merge."""

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from merge.errors import ProcessDied, UnsafeResult
from merge.peft_format import FormatError
from merge.peft_format.problems import Problem
from merge.processes import Group, affordable, over

GROUPS = [[str(number)] for number in range(7)]


def gone(pid: int) -> bool:
    """Return whether no process has this number, or a dead one that nobody has waited for."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


def test_every_group_is_worked_on_once() -> None:
    """Three children work on seven groups, each once, and none of them is left."""
    results: list[tuple[Group, int]] = []
    over(GROUPS, lambda group: (group, os.getpid()), results.append, processes=3)
    assert sorted(list(group) for group, _ in results) == GROUPS
    pids = {pid for _, pid in results}
    assert os.getpid() not in pids
    assert all(gone(pid) for pid in pids)


def test_one_process_or_group_forks_nothing() -> None:
    """Where there is nothing to share, the work is done in this process."""
    for groups, processes in ((GROUPS, 1), (GROUPS[:1], 3)):
        pids: list[int] = []
        over(groups, lambda _: os.getpid(), pids.append, processes=processes)
        assert {os.getpid()} == set(pids)


class Odd(ValueError):
    """An error that does not pickle."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnsafeResult("m: too large"), UnsafeResult),
        (FormatError([Problem("A007 file-size", "x", "1", "2")]), FormatError),
        (OSError(28, "No space left on device"), OSError),
        (MemoryError("no memory"), MemoryError),
        (Odd("odd ", "one"), RuntimeError),
    ],
)
def test_errors_keep_their_type(error: Exception, kind: type[Exception]) -> None:
    """What a child raises is raised here with its type, message and traceback."""

    def work(group: Group) -> None:
        if group == ["2"]:
            raise error

    with pytest.raises(kind) as caught:
        over(GROUPS, work, lambda _: None, processes=2)
    assert type(caught.value) is kind
    assert str(error) in str(caught.value)
    if kind is not RuntimeError:
        assert "in work" in caught.value.__notes__[0]


def test_a_killed_child_is_an_error() -> None:
    """A child that is killed raises ProcessDied with the signal, and the others are ended."""
    pids: list[int] = []

    def work(group: Group) -> int:
        if group == ["3"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    with pytest.raises(ProcessDied, match="by signal 9"):
        over(GROUPS, work, pids.append, processes=2)
    assert all(gone(pid) for pid in pids)


def test_an_interrupt_ends_the_children() -> None:
    """What interrupts this process, such as a time limit, ends children in the midst of work."""
    pids: list[int] = []

    def work(group: Group) -> int:
        if group != ["0"]:
            time.sleep(60)
        return os.getpid()

    def interrupt(pid: int) -> None:
        pids.append(pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        over(GROUPS, work, interrupt, processes=2)
    assert all(gone(pid) for pid in pids)


def forked(work: Callable[[], object]) -> int:
    """Return the number of a process that does `work`."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """Children end at once when their parent is killed, though they are at work."""

    def work(group: Group) -> None:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(60)

    parent = forked(lambda: over(GROUPS, work, lambda _: None, processes=2))
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    until(lambda: all(gone(int(path.name)) for path in tmp_path.iterdir()))


def until(true: Callable[[], bool]) -> None:
    """Wait until it is true, ten seconds at most."""
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_children_share_the_memory_limit() -> None:
    """Under a limit of addresses every child may claim its share, and few large ones fit."""

    def check() -> None:
        claimed = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (claimed + 2**30, resource.RLIM_INFINITY))
        assert [3, 2, 1] == [affordable(3, size) for size in (2**20, 2**29 - 2**25, 2**31)]
        with pytest.raises(MemoryError):
            over(GROUPS, lambda _: bytearray(2**29 + 2**28), lambda _: None, processes=2)
        os._exit(7)

    assert 7 == os.waitstatus_to_exitcode(os.waitpid(forked(check), 0)[1])


def test_a_team_of_kernel_threads_does_not_hang_children() -> None:
    """Children compute although this process has run kernels on several threads."""
    before = torch.get_num_threads()
    x = torch.randn(600, 600)
    try:
        torch.set_num_threads(3)
        expected = x @ x
        torch.set_num_threads(1)  # as `merge` does
        sums: list[float] = []
        over(GROUPS, lambda _: float((x @ x).add(x).sum()), sums.append, processes=2)
    finally:
        torch.set_num_threads(before)
    assert sums == [pytest.approx(float((expected + x).sum()), rel=1e-3)] * 7
