"""Finished modules on disk, until all ranks or a common factor are known.

On disk rather than in memory, so that a merge's memory does not grow with its result. Not covered:
the adapter's own file (`peft_io`).
"""

import os
import tempfile
import threading
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from merge.factors import Factors


class Spill:
    """Factors by module name, in an unnamed temporary file.

    A context manager, safe from several threads.
    """

    # Unnamed (O_TMPFILE): the kernel frees its blocks when the process ends, even by SIGKILL.
    # Beside the output, not in /tmp, which may be a smaller disk or memory.

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # By name: offset in the file, shapes of a and b.
        self._entries: dict[str, tuple[int, torch.Size, torch.Size]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def put(self, name: str, factors: Factors) -> Factors:
        """Write a module's factors, float32, with their scale folded in, and return them.

        Raises:
            OSError: the disk is full or gone.
        """
        whole = factors if factors.scale == 1.0 else factors.folded()
        with self._lock:
            self._entries[name] = (self._file.seek(0, os.SEEK_END), whole.a.shape, whole.b.shape)
            for x in (whole.a, whole.b):
                data = _bytes(x.contiguous())
                while data:  # an unbuffered write may be short
                    data = data[self._file.write(data) :]
        return whole

    def get(self, name: str) -> Factors:
        """Return a module's factors, scale 1.

        Raises:
            OSError: the disk is gone.
        """
        begin, shape_a, shape_b = self._entries[name]
        a, b = torch.empty(shape_a), torch.empty(shape_b)
        with self._lock:
            self._file.seek(begin)
            for x in (a, b):
                data = _bytes(x)
                while data:
                    data = data[self._file.readinto(data) :]
        return Factors(a, b)


def _bytes(x: Tensor) -> memoryview:
    return x.view(-1).view(torch.uint8).numpy().data
