"""What a disk holds for certain if the power goes: what was synced, as it was then.

It records each `fsync` of this process. A file is certain if it was synced with its present bytes
and each folder above it was synced with its present entry. Not covered: SQLite, which syncs itself.
"""

import os
from pathlib import Path
from typing import TypeAlias

import pytest

State: TypeAlias = tuple[int, int] | frozenset[tuple[str, int]]


class Ledger:
    """The synced states by inode, from the start of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._synced: dict[int, State] = {}
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            self.record(Path(f"/proc/self/fd/{descriptor}").readlink())

        monkeypatch.setattr(os, "fsync", fsync)

    def record(self, path: Path) -> None:
        """Note that the disk holds what `path` is now."""
        self._synced[path.stat().st_ino] = _state(path)

    def record_all(self, folder: Path) -> None:
        """Note it of a folder and of everything in it."""
        for path in (folder, *folder.rglob("*")):
            self.record(path)

    def lost(self, top: Path, *folders: Path) -> list[Path]:
        """Return the files in `folders`, which are below `top`, that might be gone or changed.

        Hidden entries are work in progress and do not count.
        """
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        shown = [file for file in files if not _hidden(file.relative_to(top))]
        return [file for file in shown if not self.is_certain(file, top)]

    def is_certain(self, file: Path, top: Path) -> bool:
        """Return whether a file and its name below `top` survive."""
        if self._synced.get(file.stat().st_ino) != _state(file):
            return False
        below = [file, *file.parents]
        return all(self.has_entry(path) for path in below[: below.index(top)])

    def has_entry(self, path: Path) -> bool:
        """Return whether the name of `path` in its folder survives."""
        entries = self._synced.get(path.parent.stat().st_ino, frozenset())
        return (path.name, path.stat().st_ino) in entries


def _state(path: Path) -> State:
    if path.is_dir():
        return frozenset((entry.name, entry.inode()) for entry in os.scandir(path))
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
