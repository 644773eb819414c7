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
    """Under the given name, or the folder's own; the alias is set and the source recorded."""
    folder = write_adapter(tmp_path / "Legal QA (v2)")
    (done,) = import_folder(registry, folder, alias="prod", actor="ann")
    assert isinstance(done.outcome, Registration)
    assert ("legal-qa-v2", "folder:legal-qa-v2") == (done.name, done.source)
    version = done.outcome.version
    assert ("legal-qa-v2", "folder:legal-qa-v2", "ann") == (
        version.name, version.source, version.created_by,
    )  # fmt: skip
    (named,) = import_folder(registry, folder, name="law")
    assert "law" == named.name
    assert ["law", "legal-qa-v2", "legal-qa-v2@prod"] == [m.id for m in registry.catalogue.models()]


def test_a_folder_of_folders_is_several(registry: Registry, tmp_path: Path) -> None:
    """Each by its own name, below the given one; what is no adapter is passed over."""
    for seed, name in enumerate(("b", "a")):
        write_adapter(tmp_path / "all" / name, tensors(seed=seed))
    (tmp_path / "all" / "notes").mkdir()
    (tmp_path / "all" / "file").touch()
    done = list(import_folder(registry, tmp_path / "all", name="acme"))
    assert ["acme/a", "acme/b"] == [one.name for one in done]
    assert ["acme/a", "acme/b"] == [adapter.name for adapter in registry.catalogue.adapters().items]


def test_a_refused_one_stops_no_other(registry: Registry, tmp_path: Path) -> None:
    """Its error stands in its place: a bad adapter, and a folder without a usable name."""
    write_adapter(tmp_path / "all" / "1st")
    write_adapter(tmp_path / "all" / "bad", r=7)
    write_adapter(tmp_path / "all" / "good")
    outcomes = [one.outcome for one in import_folder(registry, tmp_path / "all")]
    assert [NameInvalid, AdmissionRefused, Registration] == [type(one) for one in outcomes]


def test_importing_again_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    """Every outcome is the version that is there."""
    folder = write_adapter(tmp_path / "a")
    for created in (True, False):
        (done,) = import_folder(registry, folder)
        assert isinstance(done.outcome, Registration)
        assert created == done.outcome.created


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A folder behind a link is not looked into."""
    write_adapter(tmp_path / "elsewhere")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NothingToImport, match="all"):
        find_adapters(tmp_path / "all")


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_no_adapter_is_an_error_that_says_what_was_expected(tmp_path: Path, name: str) -> None:
    """A missing folder and a file: both say what an adapter's folder has."""
    (tmp_path / "file").touch()
    with pytest.raises(NothingToImport, match=r"adapter_config\.json"):
        find_adapters(tmp_path / name)


@pytest.mark.parametrize(
    ("folder", "name"), [("Llama LoRA", "llama-lora"), ("a__b.c-d", "a__b.c-d"), ("é", "")]
)
def test_a_folders_name_suggests_a_name(tmp_path: Path, folder: str, name: str) -> None:
    """Lower case, with a dash for what a name cannot hold."""
    assert name == name_for(tmp_path / folder)
