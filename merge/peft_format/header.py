"""safetensors files: a bounded header reader and a writer with one deterministic layout.

Own code beside the `safetensors` library for two reasons: a hostile header must be refused before
anything is allocated, with a sentence that says why; and a version's digest is over the file's
bytes, so the layout of what we write must not depend on a library's release.
"""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, TypeGuard

from merge.peft_format.problems import (
    FETCH_LFS,
    LFS_MARK,
    LFS_POINTER,
    FormatError,
    Problem,
    brief,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
# 224 modules take about 50 KB; the format's own bound is 100 MB.
MAX_HEADER_BYTES = 16 * 2**20
_LENGTH_BYTES = 8
# The dtypes that a safetensors file may name; a size is needed to check offsets of all tensors.
_ALL_DTYPE_BYTES = DTYPE_BYTES | {
    "F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1,
    "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: `[begin, end)` are absolute byte positions in it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor that is going to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


def _refuse(
    path: Path, code: str, expected: str, found: str, tensor: str | None = None
) -> FormatError:
    return FormatError([Problem(code, path.name, expected, found, tensor)])


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors that a safetensors file declares, by name.

    Checked: the header's length against the file's and against a fixed bound, its JSON, each
    dtype, shape and offset, and that the tensors tile the data section without gap or overlap up
    to the last byte (so a file whose bytes were shifted or cut is found). No tensor is read.

    Raises:
        FormatError: naming the file, the tensor and what was expected.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        raw = _read_raw_header(file, path, size)
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # bad UTF-8 or JSON, or a number of 5,000 digits
        raise _refuse(path, "A005 header-invalid", "a JSON header", str(error)) from error
    if not isinstance(header, dict):
        raise _refuse(path, "A005 header-invalid", "a JSON object", type(header).__name__)
    header.pop("__metadata__", None)
    start = _LENGTH_BYTES + len(raw)
    entries = {name: _parse_entry(path, name, value, start) for name, value in header.items()}
    _check_tiling(path, entries.values(), start, size)
    return entries


def _read_raw_header(file: BinaryIO, path: Path, size: int) -> bytes:
    prefix = file.read(_LENGTH_BYTES)
    if prefix == LFS_MARK[:_LENGTH_BYTES]:
        raise _refuse(path, "A004 lfs-pointer", f"weights; {FETCH_LFS}", LFS_POINTER)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _LENGTH_BYTES or not 2 <= length <= size - _LENGTH_BYTES:
        found = f"a header length of {length} in a file of {size} bytes"
        raise _refuse(path, "A005 header-invalid", "a safetensors file", found)
    if length > MAX_HEADER_BYTES:
        expected = f"a header of at most {MAX_HEADER_BYTES} bytes"
        raise _refuse(path, "A005 header-invalid", expected, f"{length} bytes")
    return file.read(length)


def _parse_entry(path: Path, name: str, value: object, start: int) -> TensorEntry:
    def refuse(expected: str, found: object) -> FormatError:
        return _refuse(path, "A006 tensor-entry-invalid", expected, brief(found), name[:200])

    if not isinstance(value, dict):
        raise refuse("an object with dtype, shape and data_offsets", value)
    dtype, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _ALL_DTYPE_BYTES:
        raise refuse(f"a dtype among {', '.join(_ALL_DTYPE_BYTES)}", dtype)
    if not _is_sizes(shape) or len(shape) > 8:
        raise refuse("a shape of non-negative integers", shape)
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse("two ascending data_offsets", offsets)
    count = 1
    for dimension in shape:
        count *= dimension
    if offsets[1] - offsets[0] != count * _ALL_DTYPE_BYTES[dtype]:
        expected = f"{count * _ALL_DTYPE_BYTES[dtype]} bytes for {dtype} {shape}"
        raise refuse(expected, f"{offsets[1] - offsets[0]} bytes")
    return TensorEntry(name, dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _is_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**48 for item in value
    )


def _check_tiling(path: Path, entries: Iterable[TensorEntry], start: int, size: int) -> None:
    position = start
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != position:
            expected = f"data at byte {position}"
            raise _refuse(
                path, "A006 tensor-entry-invalid", expected, f"byte {entry.begin}", entry.name[:200]
            )
        position = entry.end
    if position != size:
        expected = f"{position} bytes, as its header says"
        raise _refuse(path, "A007 file-size", expected, f"{size} bytes (cut, padded or rewritten)")


def decode_float32(data: bytes | memoryview, dtype: str) -> "NDArray[np.float32]":
    """Return the numbers of a tensor's bytes as a flat float32 array (exact for all three dtypes).

    Args:
        data: little-endian bytes of the tensor.
        dtype: "F32", "F16" or "BF16".
    """
    import numpy as np  # here: commands that only read names and digests do not wait for it

    if dtype == "F32":
        return np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)
    if dtype == "F16":
        return np.frombuffer(data, dtype="<f2").astype(np.float32)
    # numpy has no bfloat16: its bits are the upper half of a float32's.
    return (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)


class WeightsWriter:
    """Writes a safetensors file tensor by tensor, in any order, in one fixed layout.

    Names are sorted, the header is compact JSON padded to 8 bytes: the same tensors give the same
    bytes. Leaving the context without every tensor written raises. The caller owns the clean-up,
    and syncs what must outlive a power failure.
    """

    def __init__(self, path: Path, specs: Iterable[TensorSpec]) -> None:
        self._path = path
        self._begin: dict[str, int] = {}
        self._specs = {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        position = 0
        for spec in self._specs.values():
            end = position + spec.nbytes
            header[spec.name] = {
                "dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [position, end],
            }  # fmt: skip
            self._begin[spec.name] = position
            position = end
        raw = json.dumps(header, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % 8)
        self._prologue = len(raw).to_bytes(_LENGTH_BYTES, "little") + raw
        self._size = len(self._prologue) + position

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.truncate(self._file, self._size)
        _write_all(self._file, self._prologue, 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)
        if kind is None and self._begin:
            raise ValueError(f"tensors never written: {', '.join(sorted(self._begin))}")

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write the little-endian bytes of tensor `name`, once. Safe from several threads.

        Raises:
            ValueError: a size other than the spec's, or a second write.
            OSError: the disk is full or gone.
        """
        spec = self._specs[name]
        if len(data) != spec.nbytes:
            raise ValueError(f"{name}: {len(data)} bytes given, {spec.nbytes} expected")
        begin = self._begin.pop(name, None)
        if begin is None:
            raise ValueError(f"{name}: written twice")
        _write_all(self._file, data, len(self._prologue) + begin)

    def note_written(self, name: str) -> None:
        """Record that a process forked from this one has written tensor `name`."""
        self._begin.pop(name, None)


def _write_all(file: int, data: bytes | memoryview, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        view, position = view[written:], position + written
