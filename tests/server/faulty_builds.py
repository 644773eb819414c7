"""Failing builds that replace `worker.build`; they run in worker processes."""

import errno
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

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


def _write_half(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "adapter_config.json").write_text("{")
