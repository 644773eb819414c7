"""Full and read-only disks, as an unprivileged process meets them."""

import ctypes
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# capabilities(7): what lets root write where permissions say no.
_VERSION = 0x20080522
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """Limit every file of this process to `room_bytes`."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Remove write permission in `folder`, also for root (in this thread)."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & ~0o222)
    try:
        with _ordinary_user():
            yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@contextmanager
def _ordinary_user() -> Iterator[None]:
    """Make file permissions apply to this thread, also when root runs it."""
    library = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION, 0), (_Data * 2)()

    def call(function: str) -> None:
        if getattr(library, function)(ctypes.byref(header), data) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    call("capget")
    before = data[0].effective
    data[0].effective = before & ~_OVERRIDES
    call("capset")
    try:
        yield
    finally:
        data[0].effective = before
        call("capset")


class SmallDisk:
    """A disk of a few megabytes at `folder`: a tmpfs where the process may mount one.

    Elsewhere it is an ordinary folder, and a full disk is a limit on the size of each file.
    """

    def __init__(self, folder: Path, nbytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(folder)]
        self._mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    @contextmanager
    def full(self, room_bytes: int) -> Iterator[None]:
        """Leave `room_bytes` free."""
        if not self._mounted:
            with full_disk(room_bytes):
                yield
            return
        ballast = self.folder / "ballast"
        free_bytes = shutil.disk_usage(self.folder).free
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free_bytes - room_bytes))
        try:
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        """Unmount it, also while files on it are open."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
