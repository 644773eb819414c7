"""Reading and writing tensors, exact against the files' bytes and PEFT's own reading."""

from pathlib import Path

import pytest
import torch

from merge.errors import UnsafeResult
from merge.factors import Factors
from merge.peft_format import FormatError, digest_folder, normalise_folder, open_folder
from merge.peft_io import cast, read_peft, write_peft
from tests.adapters import BASE, DTYPES, MODULES, make_adapter
from tests.merge.llama import load_in_peft, peft_updates

PATTERN_RANKS = {"model.layers.0.self_attn.q_proj": 2, "model.layers.1.mlp.down_proj": 6}
PATTERN_ALPHAS = {"model.layers.0.self_attn.q_proj": 3.0, "model.layers.0.mlp.gate_proj": 5.5}
VARIANTS = {
    "alpha": {"alpha": 12.0},
    "rslora": {"use_rslora": True},
    "rank_pattern": {"rank_pattern": PATTERN_RANKS},
    "alpha_pattern": {"alpha_pattern": PATTERN_ALPHAS},
    "everything": {
        "use_rslora": True,
        "rank_pattern": PATTERN_RANKS,
        "alpha_pattern": PATTERN_ALPHAS,
        "alpha": 7.0,
    },
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
}


def update(f: Factors) -> torch.Tensor:
    """Return the dense update in float64."""
    return f.b.double() @ f.a.double() * f.scale


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_equal_pefts(tmp_path: Path, variant: str) -> None:
    """Every module's update is what PEFT computes from the same folder."""
    path = make_adapter(tmp_path / "a", **VARIANTS[variant])  # type: ignore[arg-type]  # a table
    folder = open_folder(path)
    expected = peft_updates(load_in_peft(path))
    assert expected.keys() == folder.modules.keys()
    for name, module in folder.modules.items():
        actual = update(read_peft(folder, module))
        torch.testing.assert_close(actual, expected[name], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_writing_keeps_the_update(tmp_path: Path, variant: str) -> None:
    """An adapter written in float32 and read again has the same update, for weft and for PEFT."""
    source = open_folder(
        make_adapter(tmp_path / "a", **VARIANTS[variant])  # type: ignore[arg-type]  # a table
    )
    read = {name: read_peft(source, module) for name, module in source.modules.items()}
    write_peft(tmp_path / "b", read, base=BASE)
    copy = open_folder(tmp_path / "b")
    theirs = peft_updates(load_in_peft(tmp_path / "b"))
    for name, factors in read.items():
        again = read_peft(copy, copy.modules[name])
        assert again.scale == 1.0
        torch.testing.assert_close(update(factors), update(again), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(update(again), theirs[name], rtol=1e-12, atol=0.0)


def test_written_folder_is_in_normal_form(tmp_path: Path) -> None:
    """Normalising a folder that weft wrote changes no byte, so its digest is its identity."""
    source = open_folder(make_adapter(tmp_path / "a", rank_pattern=PATTERN_RANKS))
    read = {name: read_peft(source, module) for name, module in source.modules.items()}
    write_peft(tmp_path / "b", read, base=BASE, dtype="bfloat16")
    (tmp_path / "c").mkdir()
    normalise_folder(open_folder(tmp_path / "b"), tmp_path / "c", base=BASE)
    assert digest_folder(tmp_path / "b") == digest_folder(tmp_path / "c")


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_are_read_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    """Tensors in all three file dtypes are read as the float32 numbers that torch reads."""
    path = make_adapter(tmp_path / "a", dtype=dtype)
    expected = torch.Generator().manual_seed(0)
    folder = open_folder(path)
    first = next(iter(MODULES))
    a = (torch.randn(4, 16, generator=expected) * 0.3).to(DTYPES[dtype]).float()
    assert torch.equal(a, read_peft(folder, folder.modules[first]).a)


def test_embedding_pairs_keep_their_names(tmp_path: Path) -> None:
    """An embedding's factors are written under PEFT's names for embedding LoRA."""
    factors = Factors(torch.ones(2, 32), torch.ones(16, 2))
    name = "model.embed_tokens"
    write_peft(tmp_path / "a", {name: factors}, kinds={name: "embedding"}, base=BASE)
    module = open_folder(tmp_path / "a").modules[name]
    assert ("embedding", 2, 32, 16) == (module.kind, module.rank, module.d_in, module.d_out)


@pytest.mark.parametrize(("dtype", "size"), [("F16", 7e4), ("BF16", 3.4e38), ("F32", float("inf"))])
def test_overflow_in_the_cast_names_the_module(dtype: str, size: float) -> None:
    """A number too large for the output dtype raises an error that names the module."""
    with pytest.raises(UnsafeResult, match=r"layers\.0\.q_proj.*does not fit"):
        cast(torch.tensor([[1.0, size]]), dtype, "layers.0.q_proj")


def test_nan_is_never_written() -> None:
    """NaN is refused when casting to any dtype."""
    with pytest.raises(UnsafeResult, match="does not fit"):
        cast(torch.tensor([[float("nan"), 1.0]]), "F32", "m")


def test_file_cut_after_opening_is_reported(tmp_path: Path) -> None:
    """A file that shrinks between reading its header and its data raises a format error."""
    folder = open_folder(make_adapter(tmp_path / "a"))
    with folder.weights_path.open("r+b") as file:
        file.truncate(folder.weights_path.stat().st_size // 2)
    last = max(folder.modules.values(), key=lambda module: module.b.end)
    with pytest.raises(FormatError, match="was cut while it was read"):
        read_peft(folder, last)


def test_existing_weights_are_not_overwritten(tmp_path: Path) -> None:
    """Writing into a folder that holds an adapter fails instead of replacing it."""
    factors = {"m": Factors(torch.ones(1, 2), torch.ones(2, 1))}
    write_peft(tmp_path / "a", factors, base=BASE)
    with pytest.raises(FileExistsError):
        write_peft(tmp_path / "a", factors, base=BASE)
