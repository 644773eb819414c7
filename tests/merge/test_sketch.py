"""The weight embedding: the estimates by its dot products, and its invariances."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

import merge.sketch
from merge.peft_format import open_folder
from merge.sketch import SKETCH_DIM, sketch
from tests.adapters import make_adapter

Factors = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]  # module -> (a, b)
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
# module -> (d_out, d_in): two layers of all seven projections, a Llama's at 1/16 width.
ALL = {
    f"model.layers.{layer}.{name}": shape
    for layer in range(2)
    for name, shape in {
        "self_attn.q_proj": (256, 256), "self_attn.k_proj": (64, 256),
        "self_attn.v_proj": (64, 256), "self_attn.o_proj": (256, 256),
        "mlp.gate_proj": (896, 256), "mlp.up_proj": (896, 256), "mlp.down_proj": (256, 896),
    }.items()
}  # fmt: skip
ATTENTION = {name: shape for name, shape in ALL.items() if name.endswith(("q_proj", "v_proj"))}
PAIRS = 200
GOLDEN = [(121, 0.80078), (438, -0.82031), (1089, 0.82031), (1241, -0.84375)]


def draw(rng: np.random.Generator, shapes: Mapping[str, tuple[int, int]], rank: int) -> Factors:
    """Return random factors; some modules have larger updates than others, as in real adapters."""
    return {
        name: (
            rng.standard_normal((rank, d_in), np.float32),
            rng.standard_normal((d_out, rank), np.float32) * np.float32(rng.uniform(0.5, 2)),
        )
        for name, (d_out, d_in) in shapes.items()
    }


def scaled(factors: Factors, scale: float) -> Factors:
    """Return the factors of `scale` times the update."""
    return {name: (a, b * np.float32(scale)) for name, (a, b) in factors.items()}


def added(x: Factors, y: Factors) -> Factors:
    """Return the factors of the sum of two updates."""
    return {
        name: (np.concatenate([x[name][0], y[name][0]]), np.hstack([x[name][1], y[name][1]]))
        for name in x
    }


def write(folder: Path, factors: Factors) -> Path:
    """Write an adapter whose scale is 1."""
    folder.mkdir(parents=True, exist_ok=True)
    rank = len(next(iter(factors.values()))[0])
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"base_model.model.{name}.lora_B.weight"] = np.ascontiguousarray(b)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def sketched(folder: Path, factors: Factors) -> NDArray[np.float64]:
    """Return the sketch of these factors, written to a file and read from it."""
    return sketch(open_folder(write(folder, factors))).astype(np.float64)


def product(x: Factors, y: Factors) -> float:
    """Return the exact ⟨ΔW_x, ΔW_y⟩ over all modules: Σ tr((B_xᵀ B_y)(A_y A_xᵀ))."""
    total = 0.0
    for name in x.keys() & y.keys():
        (a, b), (other_a, other_b) = x[name], y[name]
        total += float(np.vdot(b.T.astype(np.float64) @ other_b, a.astype(np.float64) @ other_a.T))
    return total


def cosine(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the cosine of two sketches."""
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def close(expected: NDArray[np.float64], found: NDArray[np.float64]) -> bool:
    """Return whether two sketches differ by no more than rounding."""
    return bool(np.linalg.norm(expected - found) < 1e-5 * np.linalg.norm(expected))


def pairs() -> Iterator[tuple[Factors, Factors]]:
    """Return pairs of adapters, of several shapes, with cosines spread evenly over 0 to 1."""
    rng = np.random.default_rng(0)
    for i in range(PAIRS):
        shapes, rank = (ALL, ATTENTION)[i % 2], (2, 4, 8)[i % 3]
        first, other = draw(rng, shapes, rank), draw(rng, shapes, rank)
        first = scaled(first, product(first, first) ** -0.5)
        other = scaled(other, product(other, other) ** -0.5)
        wanted = i / (PAIRS - 1)
        yield first, added(scaled(first, wanted), scaled(other, (1 - wanted**2) ** 0.5))


def test_the_estimated_cosine_is_near_the_exact_one(tmp_path: Path) -> None:
    """Of 200 pairs with cosines from 0 to 1, 95 % are within 0.05 and all are within 0.1."""
    exact, errors = [], []
    for x, y in pairs():
        true = product(x, y) / (product(x, x) * product(y, y)) ** 0.5
        estimate = cosine(sketched(tmp_path / "x", x), sketched(tmp_path / "y", y))
        exact.append(true)
        errors.append(abs(estimate - true))
    assert (min(exact) < 0.05, max(exact) > 0.99) == (True, True)
    assert np.mean(np.array(errors) <= 0.05) >= 0.95
    assert max(errors) <= 0.1


def test_the_length_estimates_the_norm(tmp_path: Path) -> None:
    """The squared length of a sketch is that of the update, within a few percent."""
    factors = draw(np.random.default_rng(1), ALL, 8)
    length = np.linalg.norm(sketched(tmp_path / "a", factors))
    assert product(factors, factors) ** 0.5 == pytest.approx(length, rel=0.1)


def test_another_factoring_is_the_same_sketch(tmp_path: Path) -> None:
    """`b·m, m⁻¹·a` is the same update and has the same sketch."""
    factors = draw(np.random.default_rng(2), ALL, 4)
    mixing = np.random.default_rng(3).standard_normal((4, 4)) + 3 * np.eye(4)
    inverse = np.linalg.inv(mixing)
    mixed = {
        name: ((inverse @ a).astype(np.float32), (b @ mixing).astype(np.float32))
        for name, (a, b) in factors.items()
    }
    plain, other = sketched(tmp_path / "a", factors), sketched(tmp_path / "b", mixed)
    assert close(plain, other)


def test_a_rank_more_with_nothing_in_it_changes_nothing(tmp_path: Path) -> None:
    """Padding the factors with zero rows and columns does not change the sketch."""
    factors = draw(np.random.default_rng(4), ATTENTION, 2)
    padded = added(factors, scaled(factors, 0))
    plain, other = sketched(tmp_path / "a", factors), sketched(tmp_path / "b", padded)
    assert close(plain, other)


def test_the_sketch_is_linear(tmp_path: Path) -> None:
    """The sketch of a sum is the sum of the sketches; that of a multiple is the multiple."""
    rng = np.random.default_rng(5)
    x, y = draw(rng, ATTENTION, 2), draw(rng, ATTENTION, 3)
    parts = sketched(tmp_path / "x", x) - 2 * sketched(tmp_path / "y", y)
    whole = sketched(tmp_path / "s", added(x, scaled(y, -2)))
    assert close(parts, whole)


def test_a_missing_module_is_a_zero(tmp_path: Path) -> None:
    """The sketch of two modules is the sum of one of each: a missing module counts as zero."""
    factors = draw(np.random.default_rng(6), {Q: (256, 256), DOWN: (256, 896)}, 2)
    whole = sketched(tmp_path / "w", factors)
    parts = [sketched(tmp_path / name, {name: factors[name]}) for name in (Q, DOWN)]
    assert close(parts[0] + parts[1], whole)


def test_scale_is_part_of_the_update(tmp_path: Path) -> None:
    """Doubling alpha doubles the vector; rsLoRA and patterns scale it as in PEFT."""
    plain = make_adapter(tmp_path / "plain", rank=4, alpha=8)
    doubled = make_adapter(tmp_path / "doubled", rank=4, alpha=16)
    root = make_adapter(tmp_path / "root", rank=4, alpha=8, use_rslora=True)  # 8/√4 = 2 · 8/4
    expected = 2 * sketch(open_folder(plain))
    for folder in (doubled, root):
        np.testing.assert_allclose(sketch(open_folder(folder)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_stored_dtype_matters_by_its_rounding_only(tmp_path: Path, dtype: str) -> None:
    """The same numbers stored in a narrower dtype have nearly the same vector."""
    plain = sketch(open_folder(make_adapter(tmp_path / "plain"))).astype(np.float64)
    other = sketch(open_folder(make_adapter(tmp_path / "other", dtype=dtype))).astype(np.float64)
    assert 1 == pytest.approx(cosine(plain, other), abs=1e-4)


def test_a_module_too_small_for_transforms_has_the_same_sketch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing the product into buckets equals the convolution of the factors' sketches."""
    shapes = {"model.layers.0.mlp.up_proj": (2300, 30), "model.layers.0.mlp.down_proj": (30, 2300)}
    factors = draw(np.random.default_rng(9), ALL | shapes, 8)
    found = []
    for products in (0, 2**20):
        monkeypatch.setattr(merge.sketch, "_PRODUCTS_PER_RANK", products)
        found.append(sketched(tmp_path / "a", factors))
    assert close(*found)


def test_modules_and_sides_do_not_share_their_buckets(tmp_path: Path) -> None:
    """The same factors at another module, or the transposed update, give an unrelated vector."""
    a, b = draw(np.random.default_rng(7), {Q: (256, 256)}, 8)[Q]
    first = sketched(tmp_path / "q", {Q: (a, b)})
    elsewhere = sketched(tmp_path / "k", {Q.replace("q_proj", "k_proj"): (a, b)})
    transposed = sketched(
        tmp_path / "t", {Q: (np.ascontiguousarray(b.T), np.ascontiguousarray(a.T))}
    )
    assert abs(cosine(first, elsewhere)) < 0.1
    assert abs(cosine(first, transposed)) < 0.1


def test_wide_and_narrow_modules_work(tmp_path: Path) -> None:
    """The length estimates the norm for one coordinate and for fewer or more than the buckets."""
    for d_out, d_in in ((1, 1), (3, 5000), (SKETCH_DIM, SKETCH_DIM + 1)):
        factors = draw(np.random.default_rng(8), {Q: (d_out, d_in)}, 1)
        length = np.linalg.norm(sketched(tmp_path / f"{d_out}", factors))
        assert product(factors, factors) ** 0.5 == pytest.approx(length, rel=0.15)


def test_the_vector_of_a_known_adapter_stays_what_it_is(tmp_path: Path) -> None:
    """These numbers change only with `SKETCH_NAME`, since vectors are compared across releases."""
    ramp = np.arange(16, dtype=np.float32) / np.float32(16)
    vector = sketched(tmp_path / "a", {Q: (ramp[None, :], ramp[:, None])})
    largest = np.argsort(-np.abs(vector))[:4]
    assert (SKETCH_DIM,) == vector.shape
    assert GOLDEN == [(int(i), round(float(vector[i]), 5)) for i in sorted(largest)]


def test_the_sketch_needs_no_torch() -> None:
    """Importing `merge.sketch` does not import torch."""
    code = "import sys, merge.sketch; sys.exit('torch' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    """A file that became shorter raises an error; missing numbers are not read as zeros."""
    folder = open_folder(make_adapter(tmp_path / "a"))
    with folder.weights_path.open("r+b") as file:
        file.truncate(folder.weights_path.stat().st_size - 100)
    with pytest.raises(OSError, match="became shorter"):
        sketch(folder)
