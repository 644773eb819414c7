"""Importing from the local disk."""

from pathlib import Path

import pytest

from registry.errors import AdmissionRefused, NameInvalid
from registry.service import Registry
from registry.sources.errors import NothingToImport
from registry.sources.folder import find_adapters, import_folder, name_for
from registry.types import Registration
from tests.registry.conftest import tensors, write_adapter


def test_one_folder_is_one_adapter(registry: Registry, tmp_path: Path) -> None:
    """The adapter gets the given name or the folder's, its alias, and the path as its source."""
    folder = write_adapter(tmp_path / "Legal QA (v2)")
    (done,) = import_folder(registry, folder, alias="prod", actor="ann")
    assert isinstance(done.outcome, Registration)
    assert ("legal-qa-v2", f"folder:{folder}") == (done.name, done.source)
    version = done.outcome.version
    assert ("legal-qa-v2", f"folder:{folder}", "ann") == (
        version.name, version.source, version.created_by,
    )  # fmt: skip
    (named,) = import_folder(registry, folder, name="law")
    assert "law" == named.name
    assert ["law", "legal-qa-v2", "legal-qa-v2@prod"] == [m.id for m in registry.catalogue.models()]


def test_a_folder_of_folders_is_several(registry: Registry, tmp_path: Path) -> None:
    """Each adapter gets its folder's name below the given one; other folders are skipped."""
    for seed, name in enumerate(("b", "a")):
        write_adapter(tmp_path / "all" / name, tensors(seed=seed))
    (tmp_path / "all" / "notes").mkdir()
    (tmp_path / "all" / "file").touch()
    done = list(import_folder(registry, tmp_path / "all", name="acme"))
    assert ["acme/a", "acme/b"] == [one.name for one in done]
    assert ["acme/a", "acme/b"] == [adapter.name for adapter in registry.catalogue.adapters().items]


def test_a_refused_one_stops_no_other(registry: Registry, tmp_path: Path) -> None:
    """An invalid adapter and an unusable folder name give errors in their places."""
    write_adapter(tmp_path / "all" / "модель")
    write_adapter(tmp_path / "all" / "bad", r=7)
    write_adapter(tmp_path / "all" / "good")
    outcomes = [one.outcome for one in import_folder(registry, tmp_path / "all")]
    assert [AdmissionRefused, Registration, NameInvalid] == [type(one) for one in outcomes]


def test_importing_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    """A second import returns the existing versions."""
    folder = write_adapter(tmp_path / "a")
    for created in (True, False):
        (done,) = import_folder(registry, folder)
        assert isinstance(done.outcome, Registration)
        assert created == done.outcome.created


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A folder behind a link is skipped."""
    write_adapter(tmp_path / "elsewhere")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NothingToImport, match="all"):
        find_adapters(tmp_path / "all")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("nothing", "there is no such folder, seen from "),
        ("adaptors", "adapters exists"),
        ("acme/legal", "hf:acme/legal imports it from the Hub"),
        ("notes.txt", "import the folder that holds it"),
        ("legal.tgz", "unpack it and import the folder"),
        ("empty", "neither it nor a folder directly below it"),
        ("deep", "import deep/below"),
    ],
)
def test_no_adapter_is_an_error_with_the_hint_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, hint: str
) -> None:
    """A missing folder, a file, an archive, an empty folder and deeper adapters have their own
    hints.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("adapters", "empty"):
        (tmp_path / name).mkdir()
    for name in ("notes.txt", "legal.tgz"):
        (tmp_path / name).touch()
    write_adapter(tmp_path / "deep" / "below" / "a")
    with pytest.raises(NothingToImport, match=r"adapter_config\.json") as caught:
        find_adapters(Path(path))
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Llama LoRA", "llama-lora"),
        ("a__b.c-d", "a__b.c-d"),
        ("é", "e"),
        ("1st", "n-1st"),
        ("й", ""),
    ],
)
def test_a_folders_name_suggests_a_name(tmp_path: Path, folder: str, name: str) -> None:
    """The name is lower case, with a dash for each invalid character."""
    assert name == name_for(tmp_path / folder)
