"""Child processes: their messages arrive, and their end is reported."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from server.children import Budget, Child, ChildDied, ChildFailed, ChildTimeout, Worker, call, limit

Send = Callable[[object], None]


def count(most: int, send: Send) -> None:
    """Send the numbers below `most`."""
    for number in range(most):
        send(number)


def fail(send: Send) -> None:
    """Send a message, then raise."""
    send("begun")
    raise ValueError("seven")


def die(send: Send) -> None:
    """Die as if the system had run out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def hang(send: Send) -> None:
    """Send the process id, then never return."""
    send(os.getpid())
    signal.pause()


def surroundings() -> tuple[int, str]:
    """Return the nice level and the OpenMP wait policy."""
    return os.nice(0), os.environ["OMP_WAIT_POLICY"]


def claim(nbytes: int) -> int:
    """Claim memory under a limit of 256 MiB more."""
    limit(spare_bytes=2**28, file_bytes=10, cpu_seconds=60)
    return len(bytearray(nbytes))


def variables() -> dict[str, str]:
    """Return the environment."""
    return dict(os.environ)


def send_variables(send: Send) -> None:
    """Send the environment."""
    send(dict(os.environ))


def message_of(error: Exception) -> str:
    """Return the message of an exception."""
    return str(error)


def test_messages_arrive_in_order() -> None:
    """Messages come in the order in which the child sends them, and end when it returns."""
    with Child[int](count, 3) as child:
        assert [0, 1, 2] == list(child.messages())


def test_what_a_child_raises_reaches_the_parent() -> None:
    """Earlier messages arrive first, then the parent raises the result of `explain`."""
    with Child[str](fail, explain=message_of) as child:
        messages = child.messages()
        assert "begun" == next(messages)
        with pytest.raises(ChildFailed, match=r"^seven$"):
            next(messages)


def test_a_killed_child_is_reported_with_its_signal() -> None:
    """A child that the system kills is distinguished from one that fails."""
    with Child[str](die) as child, pytest.raises(ChildDied, match="by signal 9"):
        list(child.messages())


def test_a_silent_child_times_out_and_is_ended() -> None:
    """The wait for each message is limited, and leaving the context ends the process."""
    with Child[int](hang) as child:
        messages = child.messages(30.0)
        pid = next(messages)
        with pytest.raises(ChildTimeout, match=r"longer than 0\.1 s"):
            next(child.messages(0.1))
    assert not Path(f"/proc/{pid}").exists()


def test_children_run_below_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child is nicer than its parent, and OpenMP threads that wait in it do not spin."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert (min(19, os.nice(0) + 5), "PASSIVE") == call(surroundings, seconds=60.0)


def test_a_child_has_none_of_its_parent_s_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child reads the variables on the list, and those that it is given by name; so a secret
    under any other name is not in what it logs or sends."""
    for name in ("WEFT_API_KEYS", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "ANYTHING"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("HF_HOME", "/models")
    environment = call(variables, seconds=60.0)
    assert "secret" not in environment.values()
    assert ("/models", os.environ["PATH"]) == (environment["HF_HOME"], environment["PATH"])
    with Child[dict[str, str]](send_variables, names=("HF_TOKEN",)) as child:
        (environment,) = child.messages(60.0)
    assert ["HF_TOKEN"] == [name for name, value in environment.items() if value == "secret"]


def test_limits_are_kept() -> None:
    """Memory beyond the limit is refused inside the child."""
    assert 10 == call(claim, 10, seconds=60.0)
    with pytest.raises(ChildFailed, match="MemoryError"):
        call(claim, 2**30, seconds=60.0)


def test_a_child_ends_with_a_parent_that_is_killed() -> None:
    """The lifeline ends a child even if its parent is killed."""
    program = (
        "from tests.server.test_children import Child, hang\n"
        "if __name__ == '__main__':\n"
        "    for pid in Child(hang).messages():\n"
        "        print(pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().decode().strip() / "cmdline"
        assert child.read_bytes()
        parent.kill()
    for _ in range(200):
        if not (child.exists() and child.read_bytes()):  # gone, or waits to be reaped
            return
        time.sleep(0.05)
    raise AssertionError("the child outlived its parent")


def add(number: int, other: int) -> tuple[int, int]:
    """Return the process, and a sum."""
    return os.getpid(), number + other


def spend(nbytes: int) -> int:
    """Claim memory within the budget of a call."""
    return len(bytearray(nbytes))


def test_a_worker_answers_one_call_after_the_other() -> None:
    """Its process stays, also when a call fails or needs more memory than its budget."""
    worker = Worker()
    large, small = Budget(2**28, 60), Budget(2**26, 60)
    try:
        pid, total = worker.call(add, 1, 2, seconds=60, budget=large)
        assert 3 == total
        with pytest.raises(ChildFailed, match="TypeError"):
            worker.call(add, 1, "x", seconds=60, budget=large)
        with pytest.raises(ChildFailed, match="MemoryError"):
            worker.call(spend, 2**27, seconds=60, budget=small)
        assert 2**27 == worker.call(spend, 2**27, seconds=60, budget=large)
        assert pid == worker.call(add, 1, 2, seconds=60, budget=small)[0]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ChildDied):
            worker.call(add, 1, 2, seconds=60, budget=large)
    finally:
        worker.reap()


def test_a_worker_that_takes_too_long_is_gone() -> None:
    """A call beyond its time ends the worker, and further calls say that it is gone."""
    worker = Worker()
    with pytest.raises(ChildTimeout):
        worker.call(time.sleep, 60, seconds=0.1, budget=Budget(2**28, 60))
    with pytest.raises(ChildDied):
        worker.call(add, 1, 2, seconds=60, budget=Budget(2**28, 60))
