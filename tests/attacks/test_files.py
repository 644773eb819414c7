"""An adapter's files cannot lead out of its folder, and only regular files are opened."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.errors import AdmissionRefused
from registry.service import Registry
from registry.sources.errors import NothingToImport
from registry.sources.folder import find_adapters, import_folder
from registry.storage.blobs import LocalBlobs
from registry.types import Registration
from tests.attacks.conftest import OUTSIDE
from tests.attacks.strings import NO_NAMES
from tests.reading import read_adapter
from tests.registry.conftest import PREFIX, tensors, write_adapter

pytestmark = pytest.mark.usefixtures("registry")
WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "README.md"


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


REPLACEMENTS: dict[str, Callable[[Path], None]] = {
    "a link to a file outside": _link(f"../../{OUTSIDE}"),
    "an absolute link": _link("/etc/passwd"),
    "a dangling link": _link("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a folder": _link(".."),
    "a link to a device": _link("/dev/zero"),
    "a named pipe": os.mkfifo,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("kind", REPLACEMENTS)
@pytest.mark.timeout(20)  # opening a pipe blocks until a writer opens it
def test_what_is_no_file_is_refused(
    registry: Registry, store: LocalBlobs, root: Path, file: str, kind: str
) -> None:
    """A link, pipe or folder in place of a file is refused without delay, and nothing is stored."""
    (root / "in" / "good" / file).unlink()
    REPLACEMENTS[kind](root / "in" / "good" / file)
    with pytest.raises(AdmissionRefused):
        registry.adapters.register(root / "in" / "good", name="legal")
    assert frozenset() == store.digests()


@pytest.mark.parametrize("kind", REPLACEMENTS)
@pytest.mark.timeout(20)
def test_a_card_that_is_no_file_is_not_read(registry: Registry, root: Path, kind: str) -> None:
    """An adapter whose card is a link is refused; a pipe or a folder is not read as a card."""
    REPLACEMENTS[kind](root / "in" / "good" / CARD)
    if "link" in kind:
        with pytest.raises(AdmissionRefused, match="symlink"):
            registry.adapters.register(root / "in" / "good", name="legal")
        return
    registry.adapters.register(root / "in" / "good", name="legal")
    assert read_adapter(registry, "legal").versions[0].card is None


def test_files_that_come_along_stay_behind(
    registry: Registry, store: LocalBlobs, root: Path
) -> None:
    """Only config and weights are stored, both rewritten by weft, and no other file."""
    folder = root / "in" / "good"
    (folder / "tokenizer.py").write_text("import os")
    (folder / "training_args.bin").write_bytes(b"\x80\x04")
    digest = registry.adapters.register(folder, name="legal").version.digest
    stored = list(store.path(digest).iterdir())
    assert {CONFIG, WEIGHTS} == {path.name for path in stored}
    assert all(path.is_file() and not path.is_symlink() for path in stored)
    assert all(1 == path.stat().st_nlink for path in stored)


@pytest.mark.parametrize(
    "module",
    ["../../x", "/etc/passwd", "model/layers/../0", "model.layers.0.self_attn.q_proj\0",
     "model.layers.0.self_\N{CYRILLIC SMALL LETTER A}ttn.q_proj", "__class__", "{0.__class__}"],
)  # fmt: skip
def test_no_such_module(registry: Registry, store: LocalBlobs, root: Path, module: str) -> None:
    """Tensors of modules that the base does not have are refused, and nothing is stored."""
    a, b = list(tensors().values())[:2]
    pair = {f"{PREFIX}{module}.lora_A.weight": a, f"{PREFIX}{module}.lora_B.weight": b}
    save_file(pair, root / "in" / "good" / WEIGHTS)
    with pytest.raises(AdmissionRefused):
        registry.adapters.register(root / "in" / "good", name="legal")
    assert frozenset() == store.digests()


def test_paths_in_the_config_are_text(registry: Registry, store: LocalBlobs, root: Path) -> None:
    """Paths that the config gives as base, revision or layers are never opened."""
    folder = root / "in" / "good"
    document = json.loads((folder / CONFIG).read_text())
    for key in ("base_model_name_or_path", "revision", "auto_mapping", "layers_pattern"):
        changed = document | {key: f"../../{OUTSIDE}"}
        (folder / CONFIG).write_text(json.dumps(changed))
        report = registry.adapters.check(folder)
        assert "precious" not in json.dumps(report.to_json()).replace(OUTSIDE, "")


def test_folders_with_names_that_are_none(registry: Registry, root: Path) -> None:
    """A folder whose name is not valid is refused by itself or imported under a plain name."""
    many = root / "in" / "many"
    names = [text for text in NO_NAMES if 0 < len(text.encode("utf-8", "replace")) < 200]
    for text in names:
        if "/" not in text and "\0" not in text and text not in (".", "..") and text.isprintable():
            write_adapter(many / text)
    outcomes = list(import_folder(registry, many))
    assert len(outcomes) > 20
    for item in outcomes:
        if isinstance(item.outcome, Registration):
            assert item.outcome.version.name.isascii()
            assert ".." != item.outcome.version.name


def test_folders_behind_links_are_passed_over(root: Path) -> None:
    """A link in a folder of adapters does not import an adapter from elsewhere."""
    (root / "in" / "many").mkdir()
    (root / "in" / "many" / "linked").symlink_to(root / "in" / "good")
    with pytest.raises(NothingToImport):
        find_adapters(root / "in" / "many")


def test_a_card_is_text(registry: Registry, root: Path) -> None:
    """A card is stored as text, with NUL replaced and an invalid licence ignored."""
    (root / "in" / "good" / CARD).write_bytes(b"---\nlicense: ../../x\n---\n<script>\0\xff")
    registry.adapters.register(root / "in" / "good", name="legal")
    version = read_adapter(registry, "legal").versions[0]
    assert version.card is not None
    assert "\0" not in version.card
    assert version.licence is None


def test_arrays_of_other_things_are_refused(registry: Registry, root: Path) -> None:
    """Weights of integers are refused."""
    weights = {name: np.zeros(value.shape, np.int32) for name, value in tensors().items()}
    save_file(weights, root / "in" / "good" / WEIGHTS)
    with pytest.raises(AdmissionRefused):
        registry.adapters.register(root / "in" / "good", name="legal")
