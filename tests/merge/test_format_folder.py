"""The adapter folder: the reasons for refusal, and the normal form with its digest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merge.peft_format import (
    FormatError,
    digest_folder,
    inspect_folder,
    normalise_folder,
    open_folder,
)
from merge.peft_format.names import parse_tensor_name, tensor_names
from tests.adapters import BASE, make_adapter, write_folder

P = "base_model.model."
Q = "model.layers.0.self_attn.q_proj"


def pair(prefix: str = f"{P}{Q}", rank: int = 4, middle: str = "") -> dict[str, Tensor]:
    """Return a pair of factors of a (16, 16) module."""
    generator = torch.Generator().manual_seed(0)
    return {
        f"{prefix}.lora_A{middle}.weight": torch.randn(rank, 16, generator=generator),
        f"{prefix}.lora_B{middle}.weight": torch.randn(16, rank, generator=generator),
    }


def codes(path: Path) -> list[str]:
    """Return the codes of all problems of a folder."""
    inspection = inspect_folder(path)
    assert inspection.folder is None
    with pytest.raises(FormatError) as caught:
        open_folder(path)
    assert inspection.problems == caught.value.problems
    return [problem.code.split()[0] for problem in inspection.problems]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{P}{Q}.lora_A.weight", (Q, "linear", "a")),
        (f"{P}{Q}.lora_B.default.weight", (Q, "linear", "b")),
        (f"{P}{P}{Q}.lora_A.weight", (Q, "linear", "a")),
        (f"{Q}.lora_A.weight", (Q, "linear", "a")),
        (f"{P}model.wte.lora_embedding_A", ("model.wte", "embedding", "a")),
        (f"{P}model.wte.lora_embedding_B.default", ("model.wte", "embedding", "b")),
        (f"{P}{'a' * 200}.lora_A.weight", ("a" * 200, "linear", "a")),
        (f"{P}{Q}.lora_A", None), (f"{P}{Q}.lora_embedding_A.weight", None),
        (f"{P}{Q}.lora_C.weight", None), (f"{P}{Q}.lora_A.bias", None), (f"{P}{Q}.weight", None),
        (f"{P}{Q}.lora_magnitude_vector", None), (f"{P}../etc.lora_A.weight", None),
        (f"{P}.lora_A.weight", None), (f"{P}a..b.lora_A.weight", None), ("", None),
        (f"{P}{Q}\n.lora_A.weight", None), (f"{P}{Q}.lora_A.weight\n", None),
        (f"{P}q\u0440roj.lora_A.weight", None), (f"{P}{'a' * 201}.lora_A.weight", None),
    ],
)  # fmt: skip
def test_tensor_names(name: str, expected: tuple[str, str, str] | None) -> None:
    """A tensor name parses to a module, kind and side, or to None, as strange module names do."""
    assert expected == parse_tensor_name(name)


@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_written_names_read_back(kind: Any) -> None:
    """The names that weft writes parse to the parts they were made from."""
    assert [(Q, kind, "a"), (Q, kind, "b")] == [parse_tensor_name(n) for n in tensor_names(Q, kind)]


def test_missing_files_are_named(tmp_path: Path) -> None:
    """For an empty folder, both the missing config and the missing weights are reported."""
    assert ["A001", "A002"] == codes(tmp_path)
    assert ["A001", "A002"] == codes(tmp_path / "nowhere")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    """A folder whose only weights are a pickle is refused, and the pickle is not opened."""
    make_adapter(tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").rename(tmp_path / "a" / "adapter_model.bin")
    assert ["A003"] == codes(tmp_path / "a")


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link in place of a file is not followed."""
    make_adapter(tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    assert ["A002"] == codes(tmp_path / "a")


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({}, "A008"),
        (pair() | {f"{P}{Q}.lora_magnitude_vector": torch.ones(16)}, "A009"),
        (pair() | {f"{P}lm_head.weight": torch.ones(2, 2)}, "A026"),
        (pair() | {f"{P}model.embed_tokens.weight": torch.ones(2, 2)}, "A026"),
        (pair() | {"score.weight": torch.ones(2, 2)}, "A027"),
        (pair() | {f"{P}{Q}.base_layer.weight": torch.ones(2, 2)}, "A009"),
        ({f"{P}lm_head.base_layer.weight": torch.ones(2, 2)}, "A008"),
        ({k: v.double() for k, v in pair().items()}, "A016"),
        ({k: v.to(torch.int8) for k, v in pair().items()}, "A016"),
        ({k: v.to(torch.float8_e4m3fn) for k, v in pair().items()}, "A016"),
        ({k: v[:, :, None] for k, v in pair().items()}, "A017"),
        ({k: v[0] for k, v in pair().items()}, "A017"),
        ({k: v[:0] for k, v in pair().items()}, "A017"),
        (pair() | pair(middle=".default"), "A018"),
        (pair() | pair(f"{P}{P}{Q}"), "A018"),
        (dict(list(pair().items())[:1]), "A019"),
        (dict(list(pair().items())[1:]), "A019"),
        ({f"{P}m.lora_A.weight": torch.ones(4, 8), f"{P}m.lora_embedding_B": torch.ones(8, 4)},
         "A019"),
        ({f"{P}m.lora_A.weight": torch.ones(4, 8), f"{P}m.lora_B.weight": torch.ones(8, 3)},
         "A020"),
        (pair(rank=5), "A021"),
    ],
)  # fmt: skip
def test_wrong_tensors_are_refused(tmp_path: Path, tensors: dict[str, Tensor], code: str) -> None:
    """Tensors that do not form complete LoRA pairs of the config's rank are refused."""
    write_folder(tmp_path / "a", {k: v.contiguous() for k, v in tensors.items()}, r=4)
    assert code in codes(tmp_path / "a")


def test_many_tensors_of_one_cause_are_one_problem(tmp_path: Path) -> None:
    """A hundred tensors with one cause are one problem with their count; two causes are two."""
    head = {f"classifier.layers.{i}.weight": torch.ones(2) for i in range(105)}
    write_folder(tmp_path / "a", pair() | head | {"odd": torch.ones(1), "other": torch.ones(1)})
    problems = {p.code[:4]: p for p in inspect_folder(tmp_path / "a").problems}
    assert {"A009", "A027"} == set(problems)
    assert "(105 such in all)" in problems["A027"].found
    assert str(problems["A027"].tensor).startswith("classifier.layers.")


def test_the_copies_that_peft_saves_are_dropped(tmp_path: Path) -> None:
    """Copies of the frozen embedding and head are listed, but never read or kept."""
    copies = {
        f"{P}lm_head.base_layer.weight": torch.ones(50, 16),
        f"{P}model.embed_tokens.base_layer.weight": torch.full((50, 16), torch.nan),
    }
    write_folder(tmp_path / "a", pair() | copies)
    write_folder(tmp_path / "b", pair())
    folder = open_folder(tmp_path / "a")
    assert set(copies) == {copy.name for copy in folder.base_copies}
    assert {Q} == folder.modules.keys()
    assert normalised(tmp_path / "a", tmp_path / "x") == normalised(tmp_path / "b", tmp_path / "y")


def test_what_can_be_read_is_there_beside_the_problems(tmp_path: Path) -> None:
    """A folder with an unsupported feature lists its modules; one without a rank, its pairs."""
    write_folder(tmp_path / "a", pair(), use_dora=True)
    assert {Q} == inspect_folder(tmp_path / "a").modules.keys()
    write_folder(tmp_path / "b", pair(), r=None)
    inspection = inspect_folder(tmp_path / "b")
    assert ({Q}, set()) == (set(inspection.pairs), set(inspection.modules))


def test_a_pointer_to_a_pickle_is_a_pointer(tmp_path: Path) -> None:
    """A Git LFS pointer named adapter_model.bin is reported as a pointer, with the remedy."""
    make_adapter(tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / "a" / "adapter_model.bin").write_text(pointer)
    (problem,) = inspect_folder(tmp_path / "a").problems
    assert ("A004 lfs-pointer", "adapter_model.bin") == (problem.code, problem.file)
    assert "git lfs pull" in problem.expected


def test_messages_name_the_tensor(tmp_path: Path) -> None:
    """The message on an incomplete pair names the missing tensor."""
    write_folder(tmp_path / "a", dict(list(pair().items())[:1]))
    with pytest.raises(FormatError, match=rf"{Q}\.lora_B\.weight beside {P}{Q}\.lora_A\.weight"):
        open_folder(tmp_path / "a")


def test_problems_of_both_files_are_told(tmp_path: Path) -> None:
    """Problems of the config and of the weights are reported together."""
    write_folder(tmp_path / "a", {"junk": torch.ones(1)}, use_dora=True)
    assert ["A014", "A009"] == codes(tmp_path / "a")


def normalised(source: Path, target: Path, base: str = BASE) -> str:
    """Write the normal form and return its digest."""
    target.mkdir()
    normalise_folder(open_folder(source), target, base=base)
    return digest_folder(target)


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Replace the weights by the function's result on them."""
    weights = path / "adapter_model.safetensors"
    save_file(change(load_file(weights)), weights)


def test_normal_form_is_idempotent(tmp_path: Path) -> None:
    """Normalising a normal form changes no byte."""
    make_adapter(tmp_path / "a", rank_pattern={Q: 2}, alpha_pattern={Q: 3.5}, use_rslora=True)
    once = normalised(tmp_path / "a", tmp_path / "b")
    assert once == normalised(tmp_path / "b", tmp_path / "c")


def test_normal_form_keeps_every_module(tmp_path: Path) -> None:
    """The normal form keeps the source's ranks, scales and tensor bytes for every module."""
    make_adapter(tmp_path / "a", rank_pattern={Q: 2}, alpha_pattern={Q: 3.5}, dtype="bfloat16")
    normalised(tmp_path / "a", tmp_path / "b")
    before, after = open_folder(tmp_path / "a"), open_folder(tmp_path / "b")
    for name, module in before.modules.items():
        other = after.modules[name]
        assert (module.rank, module.scale, module.kind) == (other.rank, other.scale, other.kind)
        old, new = before.weights_path.read_bytes(), after.weights_path.read_bytes()
        assert old[module.a.begin : module.a.end] == new[other.a.begin : other.a.end]
        assert old[module.b.begin : module.b.end] == new[other.b.begin : other.b.end]


def renamed(old: str, new: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Return a function that replaces a part of every tensor's name."""
    return lambda tensors: {name.replace(old, new): x for name, x in tensors.items()}


@pytest.mark.parametrize(
    "change",
    [
        renamed(".weight", ".default.weight"),
        renamed(P, P + P),
        renamed(P, ""),
        lambda tensors: dict(reversed(tensors.items())),
    ],
)
def test_same_adapter_under_other_names_has_the_same_digest(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    """Old or doubled prefixes and another order of tensors do not change the digest."""
    make_adapter(tmp_path / "a")
    make_adapter(tmp_path / "b")
    rewrite(tmp_path / "b", change)
    assert normalised(tmp_path / "a", tmp_path / "x") == normalised(tmp_path / "b", tmp_path / "y")


def test_same_adapter_under_another_config_has_the_same_digest(tmp_path: Path) -> None:
    """Two configs with the same ranks and alphas, written differently, have the same digest."""
    make_adapter(tmp_path / "a", rank=4, alpha=8)
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    write_folder(
        tmp_path / "b", tensors, r=64, lora_alpha=1, rank_pattern={".*proj": 4},
        alpha_pattern={"_proj": 3, "proj": 4, r"[a-z_]+": 8.0}, lora_dropout=0.1,
        target_modules=["q_proj"], inference_mode=False, task_type=None,
    )  # fmt: skip
    assert normalised(tmp_path / "a", tmp_path / "x") == normalised(tmp_path / "b", tmp_path / "y")


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 9.0}, {"use_rslora": True}, {"seed": 1}, {"dtype": "bfloat16"}, {"rank": 5},
        {"alpha_pattern": {Q: 9.0}}, {"rank_pattern": {Q: 3}}, {"modules": {Q: (16, 16)}},
    ],
)  # fmt: skip
def test_any_difference_is_another_digest(tmp_path: Path, options: dict[str, Any]) -> None:
    """Another number, scale, dtype, rank or module set gives another digest."""
    make_adapter(tmp_path / "a")
    make_adapter(tmp_path / "b", **options)
    assert normalised(tmp_path / "a", tmp_path / "x") != normalised(tmp_path / "b", tmp_path / "y")


def test_one_bit_is_another_digest(tmp_path: Path) -> None:
    """A single flipped bit of a tensor, or another base, changes the digest."""
    make_adapter(tmp_path / "a")
    first = normalised(tmp_path / "a", tmp_path / "x")
    assert first != normalised(tmp_path / "a", tmp_path / "z", base="other")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert first != normalised(tmp_path / "a", tmp_path / "y")


def test_bytes_cannot_move_between_files(tmp_path: Path) -> None:
    """Moving a byte between config and weights changes the digest, which separates the two."""
    for name, config, weights in (("a", b"xy", b"z"), ("b", b"x", b"yz")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_bytes(config)
        (tmp_path / name / "adapter_model.safetensors").write_bytes(weights)
    assert digest_folder(tmp_path / "a") != digest_folder(tmp_path / "b")
