"""`weft adapters export` and `weft artifacts export`, at home and through a server."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftConfig
from safetensors.torch import load_file

from merge.peft_format import digest_folder
from server.cli import at_home
from tests.server.commands import DigestOf, adapter, failed, words
from tests.server.conftest import Weft


def test_a_round_trip_gives_the_same_digest(
    anywhere: Weft, tmp_path: Path, digest_of: DigestOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export is a PEFT folder with the imported tensors, and its import has the digest of the
    version; large answers do not stay in memory."""
    monkeypatch.setattr(at_home, "_BODY_IN_MEMORY_BYTES", 100)
    out = tmp_path / "out"
    assert digest_of("zorp") in words(anywhere("adapters", "export", "zorp@prod", out))

    assert digest_folder(out) == digest_of("zorp")
    assert PeftConfig.from_pretrained(str(out)).peft_type == "LORA"
    ours = load_file(out / "adapter_model.safetensors")
    theirs = load_file(adapter("zorp") / "adapter_model.safetensors")
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    (item,) = json.loads(anywhere("adapters", "import", out, "--name", "copy", "--json").stdout)
    assert (digest_of("zorp"), "copy@1") == (item["digest"], item["version"])


def test_a_merge_is_exported_by_its_digest(anywhere: Weft, tmp_path: Path) -> None:
    """The folder of an artifact has its digest, and is an adapter to import."""
    words(anywhere("compositions", "add", "mix", "cat(zorp, blim)"))
    words(anywhere("compositions", "publish", "mix@1", "mixed"))
    (artifact,) = json.loads(anywhere("artifacts", "list", "--json").stdout)
    words(anywhere("artifacts", "export", artifact["digest"][:12], tmp_path / "out"))
    assert digest_folder(tmp_path / "out") == artifact["digest"]
    assert "cat(zorp@1, blim@1" in (tmp_path / "out" / "README.md").read_text()


def test_a_folder_with_files_stays_as_it_is(weft: Weft, tmp_path: Path) -> None:
    """An export neither overwrites files nor leaves half a folder."""
    out = tmp_path / "out"
    failed(weft("adapters", "export", "nothing", out), "nothing")
    assert not out.exists()
    out.mkdir()
    (out / "mine").touch()
    failed(weft("adapters", "export", "zorp", out), "is not an empty folder")
    assert ["mine"] == [path.name for path in out.iterdir()]
