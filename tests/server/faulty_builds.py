"""Failing builds that replace `worker.build`; they run in worker processes."""

import errno
import os
import resource
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import merge.run
from merge.errors import ProcessDied
from server.artifacts import worker
from server.artifacts.worker import Built


def die(_recipe: str, _folders: Mapping[str, Path], out: Path, **_: object) -> Built:
    """Write half a result, then die as if the kernel had run out of memory."""
    _write_half(out)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def fill_the_disk(_recipe: str, _folders: Mapping[str, Path], out: Path, **_: object) -> Built:
    """Write half a result, then meet a full disk."""
    _write_half(out)
    raise OSError(errno.ENOSPC, "No space left on device")


def lose_the_disk(_recipe: str, _folders: Mapping[str, Path], out: Path, **_: object) -> Built:
    """Meet a missing disk."""
    raise OSError(errno.EIO, f"Input/output error: {out.name}")


def linger(_recipe: str, _folders: Mapping[str, Path], out: Path, **_: object) -> Built:
    """Start, then run longer than any timeout."""
    out.parent.joinpath("started").touch()
    time.sleep(5)
    _write_half(out)
    raise AssertionError("should have been ended")


def hoard(recipe: str, folders: Mapping[str, Path], out: Path, **options: Any) -> Built:
    """Build with a merge that takes more than a worker with 64 MiB may have."""

    def hungry(*_: object, **__: object) -> None:
        bytearray(2 * 2**30)  # a worker has a gigabyte of addresses beside its memory

    with mock.patch.object(merge.run, "merge", hungry):
        return worker.build(recipe, folders, out, **options)


def die_or_wait(recipe: str, folders: Mapping[str, Path], out: Path, **options: Any) -> Built:
    """Die with a recipe of `cat`; build any other when there is a file `go` beside all builds."""
    if '"cat"' in recipe:
        die(recipe, folders, out)
    out.parent.joinpath("started").touch()
    while not out.parent.parent.joinpath("go").exists():
        time.sleep(0.01)
    return worker.build(recipe, folders, out, **options)


def die_once(recipe: str, folders: Mapping[str, Path], out: Path, **options: Any) -> Built:
    """Die at the first attempt, and build at the second."""
    if out.name == "merged-0":
        die(recipe, folders, out)
    return worker.build(recipe, folders, out, **options)


def lose_a_process(recipe: str, folders: Mapping[str, Path], out: Path, **options: Any) -> Built:
    """Lose a process of the merge at the first attempt; at the second, build in two processes."""
    if out.name == "merged-0":
        raise ProcessDied(-signal.SIGKILL)
    with (
        mock.patch("merge.run.ELEMENTS_OF_A_PROCESS", 1),
        mock.patch("merge.methods.cost.GROUP_BYTES", 1),
    ):
        return worker.build(recipe, folders, out, **{**options, "threads": 2})


def limits() -> tuple[int, int]:
    """Return the worker's limit of addresses, and how soon it is ended when memory runs out."""
    score = int(Path("/proc/self/oom_score_adj").read_text())
    return resource.getrlimit(resource.RLIMIT_AS)[1], score


def _write_half(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "adapter_config.json").write_text("{")
