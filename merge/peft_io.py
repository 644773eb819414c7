"""Tensors in and out of PEFT folders, through `peft_format`.

Reading returns float32 (exact for the three dtypes of a file) with the scale apart; writing casts
once. A merged folder has rank = alpha in every module, so every reader computes a scale of exactly
1. Not covered: merging (`merge_run`), atomicity (`run`).
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from merge.errors import UnsafeResult
from merge.factors import Factors, Stored
from merge.peft_format import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    AdapterConfig,
    AdapterFolder,
    FormatError,
    LoraModule,
    Problem,
    TensorEntry,
    TensorSpec,
    WeightsWriter,
    tensor_names,
)
from merge.peft_format.names import Kind
from merge.recipe import OUTPUT_DTYPES, ModuleShape

# What a file calls a dtype -> torch's.
TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class FolderReader:
    """Reads modules of one adapter while its file stays open.

    A context manager, safe from several threads.
    """

    def __init__(self, folder: AdapterFolder) -> None:
        self._path = folder.weights_path

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_RDONLY)
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def read_into(self, module: LoraModule, a: Tensor, b: Tensor) -> None:
        """Fill `a` (r, d_in) and `b` (d_out, r), float32 or the file's dtype, with one module.

        Raises:
            FormatError: the file was cut after it was opened.
            OSError: it cannot be read.
        """
        for entry, x in ((module.a, a), (module.b, b)):
            if x.dtype == TORCH_DTYPES[entry.dtype] and x.is_contiguous():
                self._read(entry, x)
            else:
                read = torch.empty(entry.shape, dtype=TORCH_DTYPES[entry.dtype])
                self._read(entry, read)
                x.copy_(read)

    def _read(self, entry: TensorEntry, x: Tensor) -> None:
        # Read, not mapped: truncating a mapped file kills the process with SIGBUS. preadv takes the
        # offset as an argument, so processes share the descriptor without a lock on its position.
        view, done = _bytes(x), 0
        while done < len(view):
            count = os.preadv(self._file, [view[done:]], entry.begin + done)
            if count == 0:
                size = f"{done} bytes: the file was cut while it was read"
                problem = Problem("A007 file-size", WEIGHTS_NAME, f"{len(view)}", size, entry.name)
                raise FormatError([problem])
            done += count


def read_peft(folder: AdapterFolder, module: LoraModule) -> Factors:
    """Return one module's factors in float32, with the scale that the config gives it.

    Raises:
        FormatError: the file was cut after it was opened.
        OSError: it cannot be read.
    """
    a, b = torch.empty(module.a.shape), torch.empty(module.b.shape)
    with FolderReader(folder) as reader:
        reader.read_into(module, a, b)
    return Factors(a, b, module.scale)


class FolderWriter:
    """Writes one adapter into an existing empty folder, module by module, in any order.

    A context manager: leaving it normally makes the weights complete. The folder is in weft's
    normal form, so its digest is its identity. Safe from several threads, and from processes forked
    inside it, whose modules `note_written` is told.
    """

    def __init__(
        self, path: Path, modules: Mapping[str, ModuleShape], *, base: str | None, dtype: str
    ) -> None:
        self._modules = modules
        self._dtype = OUTPUT_DTYPES[dtype]
        (path / CONFIG_NAME).write_bytes(_config(modules, base).dump(modules))
        specs: list[TensorSpec] = []
        for name, module in modules.items():
            name_a, name_b = tensor_names(name, module.kind)
            specs.append(TensorSpec(name_a, self._dtype, (module.rank, module.d_in)))
            specs.append(TensorSpec(name_b, self._dtype, (module.d_out, module.rank)))
        self._weights = WeightsWriter(path / WEIGHTS_NAME, specs)

    def __enter__(self) -> Self:
        self._weights.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._weights.__exit__(*error)  # type: ignore[arg-type]  # passed on unchanged

    def write(self, name: str, factors: Factors, stored: Stored | None = None) -> Factors:
        """Cast and write one module, and return the cast factors in float32.

        Shapes must be those announced; the scale is folded in. `stored` has the numbers that
        `factors` were widened from: in the output dtype they are written as they are.

        Raises:
            UnsafeResult: a number overflows the output dtype; names the module.
            OSError: the disk is full or gone.
        """
        folded = factors if factors.scale == 1.0 else factors.folded()
        a, b = stored if stored is not None and folded is factors else (None, None)
        name_a, name_b = tensor_names(name, self._modules[name].kind)
        return Factors(
            self._write(name_a, folded.a, a, name),
            self._write(name_b, folded.b, b, name),
        )

    def _write(self, tensor: str, x: Tensor, stored: Tensor | None, module: str) -> Tensor:
        if stored is not None and stored.dtype == TORCH_DTYPES[self._dtype]:
            self._weights.write(tensor, _bytes(stored))
            return x
        narrow = cast(x, self._dtype, module)
        self._weights.write(tensor, _bytes(narrow))
        return narrow.float()

    def note_written(self, name: str) -> None:
        """Record that a process forked from this one has written module `name`."""
        for tensor in tensor_names(name, self._modules[name].kind):
            self._weights.note_written(tensor)


def _config(modules: Mapping[str, ModuleShape], base: str | None) -> AdapterConfig:
    """Return the config that gives every module alpha = rank, so scale 1."""
    top = max(module.rank for module in modules.values())
    ranks = {name: module.rank for name, module in sorted(modules.items()) if module.rank != top}
    return AdapterConfig(
        r=top,
        alpha=float(top),
        use_rslora=False,
        rank_pattern=ranks,
        alpha_pattern={name: float(rank) for name, rank in ranks.items()},
        base=base,
    )


def cast(x: Tensor, dtype: str, module: str) -> Tensor:
    """Return float32 `x` in a file's dtype ("F32", "F16", "BF16"), contiguous.

    This is the only cast of a merge: all earlier steps are float32 or float64, so that rounding to
    the output dtype happens once.

    Raises:
        UnsafeResult: a number is not finite, or overflows the dtype.
    """
    narrow = x.to(TORCH_DTYPES[dtype]).contiguous()
    if not is_finite(narrow):
        largest = float(x.abs().max())
        raise UnsafeResult(
            f"{module}: a number of size {largest:.3g} does not fit {dtype} "
            f"(largest {torch.finfo(narrow.dtype).max:.3g}): lower weights or scale, or write a "
            "wider dtype"
        )
    return narrow


def _bytes(x: Tensor) -> memoryview:
    return x.view(-1).view(torch.uint8).numpy().data


def is_finite(x: Tensor) -> bool:
    """Return whether all numbers are finite.

    NaN and both infinities show in the smallest or largest entry, so that one reduction answers
    without a mask as large as `x`.
    """
    low, high = torch.aminmax(x)
    return math.isfinite(low.item()) and math.isfinite(high.item())


def write_peft(
    path: Path,
    modules: Mapping[str, Factors],
    *,
    kinds: Mapping[str, Kind] | None = None,
    base: str | None,
    dtype: str = "float32",
) -> None:
    """Write a whole adapter into the folder `path`, which is made if missing and must be empty.

    Args:
        path: the folder.
        modules: factors by module name; scales are folded into `b`.
        kinds: by module; "linear" if missing.
        base: the config's `base_model_name_or_path`.
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        UnsafeResult: a number overflows the dtype.
        FileExistsError: the folder holds weights already.
        OSError: the disk is full or gone; the caller removes the partial folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    outputs = {
        name: ModuleShape(
            f.rank, f.a.shape[1], f.b.shape[0], kinds.get(name, "linear") if kinds else "linear"
        )
        for name, f in modules.items()
    }
    with FolderWriter(path, outputs, base=base, dtype=dtype) as writer:
        for name, factors in modules.items():
            writer.write(name, factors)
