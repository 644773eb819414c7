"""Pickles are converted to safetensors or refused with a message; none of their code runs."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from merge.peft_format import open_folder
from server import children, unpickle
from server.cli import app
from server.unpickle import ConversionFailed, Limits, convert, load_and_save
from tests.adapters import make_adapter

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """An adapter of old trainers, with its tensors in adapter_model.bin."""
    folder = make_adapter(tmp_path / "pickled")
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).rename(tmp_path / "expected")
    (folder / "README.md").write_text("# Card")
    (folder / "training_args.bin").write_bytes(b"\x80")
    return folder


class Shell:
    """A pickle's payload that creates a file when it runs."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self._witness}",)


def test_an_adapter_is_converted_whole(pickled: Path, tmp_path: Path) -> None:
    """Tensors, config and card are converted; other files are not copied."""
    out = tmp_path / "out"
    assert 10 == convert(pickled, out)
    assert {WEIGHTS, "adapter_config.json", "README.md"} == {p.name for p in out.iterdir()}
    expected, found = load_file(tmp_path / "expected"), load_file(out / WEIGHTS)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert 4 == open_folder(out).rank
    assert [] == [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")]


def test_a_hostile_pickle_does_nothing(pickled: Path, tmp_path: Path) -> None:
    """torch refuses the pickle in the child process, and nothing is written."""
    witness = tmp_path / "witness"
    (pickled / "adapter_model.bin").write_bytes(pickle.dumps(Shell(witness), protocol=2))
    with pytest.raises(ConversionFailed, match=r"adapter_model\.bin calls [\w.]+") as caught:
        convert(pickled, tmp_path / "out")
    assert "weights_only" not in str(caught.value)
    assert not witness.exists()
    assert not (tmp_path / "out").exists()


def load_here(_: object, *paths: Any, explain: Callable[[Exception], str], **__: object) -> int:
    """Load in this process what a child would: each child imports torch, for two seconds of CPU."""
    try:
        return load_and_save(*paths[:2])
    except Exception as error:
        raise children.ChildFailed(explain(error)) from error


@pytest.mark.parametrize("data", [b"", b"junk", b"\x80\x04]", b"PK\x03\x04 cut"])
def test_a_file_that_is_not_a_pickle_is_a_sentence_of_ours(
    pickled: Path, tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has neither torch's advice to load unsafely nor a terminal code."""
    monkeypatch.setattr(children, "call", load_here)
    (pickled / "adapter_model.bin").write_bytes(data)
    with pytest.raises(ConversionFailed) as caught:
        convert(pickled, tmp_path / "out")
    assert str(caught.value).isprintable()
    assert "weights_only" not in str(caught.value)
    assert str(caught.value).startswith("adapter_model.bin ")


def test_a_pointer_is_fetched_not_converted(pickled: Path, tmp_path: Path) -> None:
    """A Git LFS pointer under a pickle's name is named as one."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (pickled / "adapter_model.bin").write_text(pointer)
    with pytest.raises(ConversionFailed, match="git lfs pull"):
        convert(pickled, tmp_path / "out")


def test_weights_that_are_safetensors_need_no_conversion(pickled: Path, tmp_path: Path) -> None:
    """The message names the command that examines them."""
    (pickled / "adapter_model.bin").rename(pickled / "adapter_model.safetensors")
    with pytest.raises(ConversionFailed, match="weft check"):
        convert(pickled, tmp_path / "out")


def test_a_pickle_that_claims_memory_is_ended(pickled: Path, tmp_path: Path) -> None:
    """A view of terabytes over a few bytes is refused before the copy."""
    bomb = torch.zeros(1).expand(2**20, 2**20)
    torch.save({"x": bomb}, pickled / "adapter_model.bin")
    with pytest.raises(ConversionFailed):
        convert(pickled, tmp_path / "out")


def test_a_process_that_takes_too_long_is_ended(pickled: Path, tmp_path: Path) -> None:
    """A process over its time is ended."""
    with pytest.raises(ConversionFailed, match=r"longer than 0\.01 s"):
        convert(pickled, tmp_path / "out", Limits(seconds=0.01))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "found list"),
        ({}, "found dict"),
        ({"x": [1]}, "found list at 'x'"),
        ({"state_dict": {"x": torch.zeros(1)}}, "found dict at 'state_dict'"),
        ({1: torch.zeros(1)}, "at 1"),
        ({"x": torch.zeros(2, 2).to_sparse()}, "not a dense tensor"),
        ({"x": torch.zeros(2, device="meta")}, "not a dense tensor"),
    ],
)
def test_what_is_no_tensors_by_name_is_refused(tmp_path: Path, content: object, says: str) -> None:
    """The message names the value in place of a tensor."""
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(ValueError, match=says):
        load_and_save(tmp_path / "x.bin", tmp_path / "x.safetensors")


def test_tensors_that_share_their_memory_come_apart(tmp_path: Path) -> None:
    """Shared tensors are copied, because safetensors cannot express sharing."""
    x = torch.arange(6.0).reshape(2, 3)
    torch.save({"x": x, "y": x.T}, tmp_path / "x.bin")
    assert 2 == load_and_save(tmp_path / "x.bin", tmp_path / "x.safetensors")
    assert torch.equal(x.T, load_file(tmp_path / "x.safetensors")["y"])


def test_there_must_be_a_pickle_and_a_new_folder(pickled: Path, tmp_path: Path) -> None:
    """Both are checked before a process starts; a link is not accepted as a file."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ConversionFailed, match="not an empty folder"):
        convert(pickled, tmp_path / "full")
    (pickled / "adapter_model.bin").rename(tmp_path / "elsewhere")
    (pickled / "adapter_model.bin").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConversionFailed, match="none of"):
        convert(pickled, tmp_path / "out")


def test_the_command_says_what_came_of_it(
    pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success is one line; failure is one sentence and exit code 1."""
    monkeypatch.setattr(unpickle, "_run", lambda source, target, _: load_and_save(source, target))
    words = ["convert", str(pickled), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert 0 == done.exit_code
    assert "10 tensors" in done.stdout
    again = CliRunner().invoke(app, words)
    assert 1 == again.exit_code
    assert again.stderr.startswith("error: ")


def test_strangers_pickles_are_loaded_in_one_place() -> None:
    """Only `server.unpickle` and a job's own checkpoint load pickles from files, both with the
    restricted unpickler; `merge.processes` reads what its own children send.
    """
    root = Path(unpickle.__file__).parents[1]
    found = {
        path.relative_to(root).as_posix(): path.read_text()
        for package in ("merge", "registry", "server")
        for path in (root / package).rglob("*.py")
        if "torch.load(" in path.read_text() or "import pickle" in path.read_text()
    }
    assert "pickle.loads(pickle.dumps(" in found.pop("merge/processes.py")
    assert {"server/unpickle.py", "merge/adaptive/checkpoints.py"} == found.keys()
    for text in found.values():
        assert "weights_only=True)" in text
        assert "weights_only=False" not in text
