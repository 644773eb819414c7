"""The safetensors header reader on hostile files, and the writer's single layout."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from merge.peft_format import (
    FormatError,
    TensorSpec,
    WeightsWriter,
    decode_float32,
    header,
    read_header,
)
from merge.peft_format.header import MAX_HEADER_BYTES

GOOD = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def write(path: Path, header: object, data: bytes = b"\0" * 16, length: int | None = None) -> Path:
    """Write a file with this header (JSON, or bytes as they are) and data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def code(path: Path) -> str:
    """Return the code of the only problem found in the header."""
    with pytest.raises(FormatError) as caught:
        read_header(path)
    (problem,) = caught.value.problems
    assert path.name == problem.file
    return problem.code.split()[0]


def test_entries_locate_the_bytes(tmp_path: Path) -> None:
    """Every tensor of a file written by `safetensors` is located at its bytes."""
    tensors = {"x": torch.randn(3, 5), "y": torch.randn(2).half(), "z": torch.randn(4).bfloat16()}
    save_file(tensors, tmp_path / "f", metadata={"format": "pt"})
    raw = (tmp_path / "f").read_bytes()
    entries = read_header(tmp_path / "f")
    assert tensors.keys() == entries.keys()
    for name, x in tensors.items():
        entry = entries[name]
        found = decode_float32(raw[entry.begin : entry.end], entry.dtype)
        np.testing.assert_array_equal(x.float().numpy().reshape(-1), found)


@pytest.mark.parametrize("size", [0, 4, 8, 9, 100])
def test_truncated_files_are_refused(tmp_path: Path, size: int) -> None:
    """A file truncated anywhere, in its length, header or data, is refused."""
    path = write(tmp_path / "f", {"x": GOOD})
    path.write_bytes(path.read_bytes()[:-1] if size == 100 else path.read_bytes()[:size])
    assert code(path) == ("A007" if size == 100 else "A005")


def test_lfs_pointer_is_named(tmp_path: Path) -> None:
    """A Git LFS pointer in place of weights is reported as a Git LFS pointer."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (tmp_path / "f").write_bytes(pointer)
    assert "A004" == code(tmp_path / "f")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 0, 1])
def test_header_length_is_bounded_by_the_file(tmp_path: Path, length: int) -> None:
    """A header length larger than the file is refused before any memory is allocated."""
    assert "A005" == code(write(tmp_path / "f", {"x": GOOD}, length=length))


def test_header_length_is_bounded_absolutely(tmp_path: Path) -> None:
    """A header above the size limit is refused without being read, even if the file contains it."""
    assert "A005" == code(write(tmp_path / "f", b" " * (MAX_HEADER_BYTES + 1)))


def test_a_header_of_any_allowed_length_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortest header, `{}`, and one of exactly the size limit are read."""
    monkeypatch.setattr(header, "MAX_HEADER_BYTES", 64)
    for length in (2, 64):
        assert {} == read_header(write(tmp_path / "f", b"{}".ljust(length), b""))
    assert "A005" == code(write(tmp_path / "f", b"{}".ljust(65), b""))


@pytest.mark.parametrize(
    "header",
    [b"not json", b"\xff\xfe{}", b"[]", b'"x"', b"[" * 50_000, b'{"x":' + b"9" * 5000 + b"}"],
)
def test_broken_json_is_refused(tmp_path: Path, header: bytes) -> None:
    """A header that is not a JSON object is refused."""
    assert "A005" == code(write(tmp_path / "f", header))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F31"}, {"dtype": None}, {"dtype": ["F32"]}, {"shape": [2, -2]},
        {"shape": [2.0, 2]}, {"shape": [True, 4]}, {"shape": "22"}, {"shape": [1] * 9},
        {"shape": [2**48, 1]}, {"shape": [2**40, 2**40]}, {"shape": [2, 3]},
        {"data_offsets": [16, 0]}, {"data_offsets": [0]}, {"data_offsets": [0, 16, 32]},
        {"data_offsets": [-16, 0]}, {"data_offsets": None}, {"data_offsets": [8, 24]},
        {"data_offsets": [2**60, 2**60 + 16]},
    ],
)  # fmt: skip
def test_wrong_entries_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    """An entry with an invalid dtype, shape or offsets is refused with the tensor's name."""
    path = write(tmp_path / "f", {"tensor": GOOD | change})
    assert "A006" == code(path)
    with pytest.raises(FormatError, match="f: tensor: expected"):
        read_header(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [1] * 6 + [2, 2]}, {"shape": [0], "data_offsets": [0, 0]},
        {"shape": [2**48 - 1, 0], "data_offsets": [0, 0]}, {"shape": [], "data_offsets": [0, 4]},
    ],
)  # fmt: skip
def test_an_entry_within_the_limits_is_read(tmp_path: Path, entry: dict[str, object]) -> None:
    """A tensor may have up to 8 dimensions of up to 2⁴⁸ - 1, none at all, and no data."""
    made = GOOD | entry
    size = made["data_offsets"][1]  # type: ignore[index]  # a list
    (read,) = read_header(write(tmp_path / "f", {"x": made}, b"\0" * size)).values()
    assert (made["shape"], size) == (list(read.shape), read.end - read.begin)


def test_every_dtype_of_the_library_has_its_size(tmp_path: Path) -> None:
    """Tensors of every dtype that `safetensors` writes and the reader names pass its checks."""
    dtypes = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.int16, torch.int8, torch.uint64, torch.uint32, torch.uint16, torch.uint8, torch.bool,
        torch.float8_e4m3fn, torch.float8_e5m2,
    )  # fmt: skip
    save_file({str(dtype): torch.zeros(3, dtype=dtype) for dtype in dtypes}, tmp_path / "f")
    sizes = {name: entry.end - entry.begin for name, entry in read_header(tmp_path / "f").items()}
    assert {str(dtype): 3 * dtype.itemsize for dtype in dtypes} == sizes


def test_deep_entry_is_refused(tmp_path: Path) -> None:
    """An entry nested nearly to the parser's limit is refused, and the message does not crash."""
    for depth in range(700, 1000, 10):
        deep = b'{"x":' + b"[" * depth + b"]" * depth + b"}"
        assert code(write(tmp_path / "f", deep)) in ("A005", "A006")


@pytest.mark.parametrize(
    ("first", "second"), [([0, 16], [0, 16]), ([0, 16], [8, 24]), ([0, 16], [20, 36])]
)
def test_overlaps_and_gaps_are_refused(tmp_path: Path, first: list[int], second: list[int]) -> None:
    """Tensors that overlap, or leave gaps between them, are refused."""
    header = {"x": GOOD | {"data_offsets": first}, "y": GOOD | {"data_offsets": second}}
    assert "A006" == code(write(tmp_path / "f", header, b"\0" * max(first + second)))


def test_bytes_behind_the_last_tensor_are_refused(tmp_path: Path) -> None:
    """Data after the last tensor is refused."""
    assert "A007" == code(write(tmp_path / "f", {"x": GOOD}, b"\0" * 17))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ENTRIES = st.dictionaries(
    st.text(max_size=9),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "BF16", "F16", "I8"]) | JSON,
            "shape": st.lists(st.integers(0, 4), max_size=3) | JSON,
            "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2) | JSON,
        }
    ),
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(header=st.binary(max_size=200) | (JSON | ENTRIES).map(json.dumps).map(str.encode))
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, header: bytes
) -> None:
    """Reading any header gives entries or FormatError, never another error."""
    path = write(tmp_path_factory.mktemp("fuzz") / "f", header)
    with suppress(FormatError):
        read_header(path)


def test_writer_has_one_layout(tmp_path: Path) -> None:
    """The same tensors give the same bytes in any order of declaration and writing."""
    specs = [TensorSpec("b", "F32", (2, 3)), TensorSpec("a", "F16", (1, 4))]
    data = {"a": bytes(range(8)), "b": bytes(range(24))}
    for name, order in (("x", specs), ("y", specs[::-1])):
        with WeightsWriter(tmp_path / name, order) as writer:
            for spec in order:
                writer.write(spec.name, data[spec.name])
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    loaded = load_file(tmp_path / "x")
    assert data == {name: x.numpy().tobytes() for name, x in loaded.items()}


@pytest.mark.parametrize(
    ("writes", "match"),
    [
        ([("a", 12)], "a: 12 bytes given, 16 expected"),
        ([("a", 16), ("a", 16)], "a: written twice"),
        ([("a", 16)], "never written: b"),
    ],
)
def test_writer_refuses_what_was_not_announced(
    tmp_path: Path, writes: list[tuple[str, int]], match: str
) -> None:
    """A wrong size, a second write and a missing tensor each raise an error."""

    def fill() -> None:
        specs = [TensorSpec("a", "F32", (4,)), TensorSpec("b", "F32", (1,))]
        with WeightsWriter(tmp_path / "f", specs) as writer:
            for name, size in writes:
                writer.write(name, bytes(size))

    with pytest.raises(ValueError, match=match):
        fill()


@pytest.mark.parametrize(
    ("dtype", "torch_dtype"),
    [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)],
)
def test_decoding_is_exact(dtype: str, torch_dtype: torch.dtype) -> None:
    """Every 16-bit pattern, and every float32 number, decodes to the number that torch reads."""
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    x = bits.view(torch_dtype) if dtype != "F32" else torch.randn(1000)
    raw = x.view(torch.uint8).numpy().tobytes()
    np.testing.assert_array_equal(x.float().numpy(), decode_float32(raw, dtype))
