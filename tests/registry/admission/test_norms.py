"""The norm of an update, without the update."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from merge.peft_format import TensorSpec, WeightsWriter, read_header
from registry.admission import norms
from registry.admission.norms import NotFiniteError, pair_norms


def _norm(path: Path) -> float:
    header = read_header(path)
    with path.open("rb") as file:
        return pair_norms(file.fileno(), header["a"], header["b"]).product


@settings(max_examples=60, deadline=None)
@given(
    rank=st.integers(1, 9),
    d_in=st.integers(1, 12),
    d_out=st.integers(1, 12),
    half=st.booleans(),
    block=st.sampled_from([1, 7, 2**20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_norm_of_the_dense_update(
    tmp_path_factory: pytest.TempPathFactory,
    rank: int,
    d_in: int,
    d_out: int,
    half: bool,
    block: int,
    seed: int,
) -> None:
    """The norm equals the dense ‖B·A‖ up to rounding, for every block size."""
    rng = np.random.default_rng(seed)
    dtype = np.float16 if half else np.float32
    a = rng.normal(size=(rank, d_in)).astype(dtype)
    b = rng.normal(size=(d_out, rank)).astype(dtype)
    path = tmp_path_factory.mktemp("norm") / "w.safetensors"
    save_file({"a": a, "b": b}, path)
    exact = np.linalg.norm(b.astype(np.float64) @ a.astype(np.float64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norms, "_BLOCK_ELEMENTS", block)
        found = _norm(path)
    assert exact == pytest.approx(found, rel=1e-6, abs=1e-7)


def test_bfloat16_is_read_as_what_it_is(tmp_path: Path) -> None:
    """bfloat16 is the upper half of float32: 2 and 3 give a norm of 6."""
    path = tmp_path / "w.safetensors"
    with WeightsWriter(path, [TensorSpec(n, "BF16", (1, 1)) for n in "ab"]) as writer:
        writer.write("a", b"\x00\x40")  # 2.0
        writer.write("b", b"\x40\x40")  # 3.0
    assert 6.0 == _norm(path)


def test_factors_that_cancel_have_norm_zero(tmp_path: Path) -> None:
    """Rounding never gives a negative square."""
    path = tmp_path / "w.safetensors"
    a = np.full((2, 3), 0.1, dtype=np.float32)
    b = np.array([[0.3, -0.3], [0.7, -0.7]], dtype=np.float32)
    save_file({"a": a, "b": b}, path)
    assert 0.0 == pytest.approx(_norm(path), abs=1e-8)


def test_the_largest_finite_numbers_do_not_overflow(tmp_path: Path) -> None:
    """Squares of float32 fit float64, so a huge norm is finite."""
    path = tmp_path / "w.safetensors"
    top = np.full((1, 1), np.finfo(np.float32).max, dtype=np.float32)
    save_file({"a": top, "b": top}, path)
    assert float(top[0, 0]) ** 2 == pytest.approx(_norm(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("factor", ["a", "b"])
def test_numbers_that_are_not_finite_are_found(tmp_path: Path, value: float, factor: str) -> None:
    """One bad number in a factor is found, even if the other factor is zero."""
    path = tmp_path / "w.safetensors"
    made = {n: np.zeros((2, 2), dtype=np.float32) for n in "ab"}
    made[factor][1, 0] = value
    save_file(made, path)
    with pytest.raises(NotFiniteError) as caught:
        _norm(path)
    assert factor == caught.value.tensor


def test_a_file_that_was_cut_meanwhile_is_an_error(tmp_path: Path) -> None:
    """A short read is an error, not a shorter tensor."""
    path = tmp_path / "w.safetensors"
    save_file({n: np.ones((2, 2), dtype=np.float32) for n in "ab"}, path)
    header = read_header(path)
    os.truncate(path, path.stat().st_size - 4)
    with path.open("rb") as file, pytest.raises(OSError, match="was truncated while b"):
        pair_norms(file.fileno(), header["a"], header["b"])
