"""Finished modules set aside until what they share is known: their ranks, or a common factor.

On disk rather than in memory, so that a merge takes no more memory for a large result. Not covered:
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
    """Factors by module name in a file without a name: it is gone with the process at the latest.

    A context manager, safe from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, tuple[int, torch.Size, torch.Size]] = {}  # begin, shapes of a and b
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def put(self, name: str, factors: Factors) -> None:
        """Set a module's factors aside, with their scale folded in.

        Raises:
            OSError: the disk is full or gone.
        """
        whole = factors if factors.scale == 1.0 else factors.folded()
        with self._lock:
            self._held[name] = (self._file.seek(0, os.SEEK_END), whole.a.shape, whole.b.shape)
            for x in (whole.a, whole.b):
                data = _bytes(x.contiguous())
                while data:
                    data = data[self._file.write(data) :]

    def get(self, name: str) -> Factors:
        """Return a module's factors, scale 1.

        Raises:
            OSError: the disk is gone.
        """
        begin, shape_a, shape_b = self._held[name]
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
