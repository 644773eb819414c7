"""Finished modules on disk, until all ranks or a common factor are known.

On disk rather than in memory, so that a merge's memory does not grow with its result. Not covered:
the adapter's own file (`peft_io`).
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from merge.factors import Factors
from merge.recipe import ModuleShape

_F32 = 4


class Spill:
    """Factors by module name, in an unnamed temporary file.

    A context manager, safe from several threads and from processes forked inside it: every module
    has a place of its own, with room for its largest rank. Room that is not used takes no disk.
    """

    # Unnamed (O_TMPFILE): the kernel frees its blocks when the process ends, even by SIGKILL.
    # Beside the output, not in /tmp, which may be a smaller disk or memory.

    def __init__(self, folder: Path, modules: Mapping[str, ModuleShape]) -> None:
        self._folder = folder
        self._begin: dict[str, int] = {}
        end = 0
        for name, module in modules.items():
            self._begin[name] = end
            end += _F32 * module.rank * (module.d_in + module.d_out)

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def put(self, name: str, factors: Factors, _: object = None) -> Factors:
        """Write a module's factors, float32, with their scale folded in, and return them.

        Raises:
            OSError: the disk is full or gone.
        """
        whole = factors if factors.scale == 1.0 else factors.folded()
        position = self._begin[name]
        for x in (whole.a, whole.b):
            data = _bytes(x.contiguous())
            while data:  # a write may be short
                written = os.pwrite(self._file.fileno(), data, position)
                data, position = data[written:], position + written
        return whole

    def get(self, name: str, shape: ModuleShape) -> Factors:
        """Return a module's factors, scale 1; the shape has the rank that was put.

        Raises:
            OSError: the disk is gone.
        """
        a, b = torch.empty(shape.rank, shape.d_in), torch.empty(shape.d_out, shape.rank)
        position = self._begin[name]
        for x in (a, b):
            data = _bytes(x)
            while data:
                count = os.preadv(self._file.fileno(), [data], position)
                if count == 0:
                    raise EOFError(f"{name} was never put")
                data, position = data[count:], position + count
        return Factors(a, b)


def _bytes(x: Tensor) -> memoryview:
    return x.view(-1).view(torch.uint8).numpy().data
