"""Registration: identity of content, and atomicity."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merge.peft_format import normalise_folder
from registry.errors import (
    AdmissionRefused,
    AliasInvalid,
    NameInvalid,
    NameTaken,
    UnknownBase,
    UnknownReference,
    VersionRetired,
)
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.storage.errors import Conflict, DatabaseUnavailable, StorageFailed
from registry.versions import adapters, queries
from tests.reading import read_adapter
from tests.registry.conftest import BASE, DOWN, PREFIX, Q, Register, tensors, write_adapter


def _assert_untouched(registry: Registry, blobs: LocalBlobs, root: Path) -> None:
    assert () == registry.catalogue.adapters().items
    assert () == registry.catalogue.models()
    assert frozenset() == blobs.digests()
    workspaces = root / "store" / "blobs" / ".workspaces"
    assert [] == (list(workspaces.iterdir()) if workspaces.exists() else [])


def test_a_registered_adapter_is_a_version_with_everything(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """The version has metadata, facts, card and report, and the store has its files."""
    folder = write_adapter(tmp_path / "a", use_rslora=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Legal")
    done = registry.adapters.register(
        folder, name="acme/legal", alias="prod", source="folder:a", actor="ann"
    )
    version = done.version
    assert done.created
    assert ("acme/legal", 1, BASE, "ann") == (
        version.name, version.number, version.base, version.created_by,
    )  # fmt: skip
    assert ("folder:a", "mit", "---\nlicense: mit\n---\n# Legal") == (
        version.source, version.licence, version.card,
    )  # fmt: skip
    assert (2, True, ("F32",), BASE) == (
        version.rank, version.use_rslora, version.dtypes, version.base_said,
    )  # fmt: skip
    assert done.report.facts is not None
    assert done.report.facts.modules == version.modules
    assert done.report.facts.norm == version.norm
    assert done.report.to_json()["findings"] == version.report["findings"]
    blobs.verify(version.digest)
    assert (version,) == read_adapter(registry, "acme/legal").versions


def test_the_same_content_again_is_the_same_version(registry: Registry, tmp_path: Path) -> None:
    """A second registration creates nothing, but moves the alias."""
    folder = write_adapter(tmp_path / "a")
    first = registry.adapters.register(folder, name="legal")
    again = registry.adapters.register(folder, name="legal", alias="prod")
    assert (True, False) == (first.created, again.created)
    assert first.version == again.version
    assert [("prod", 1)] == [(a.alias, a.number) for a in read_adapter(registry, "legal").aliases]


def test_spelling_does_not_make_another_version(registry: Registry, tmp_path: Path) -> None:
    """Doubled prefixes, `.default.`, tensor order, patterns and base names keep the digest."""
    plain = tensors()
    doubled = {PREFIX + name: tensor for name, tensor in plain.items()}
    older = {n.replace(".weight", ".default.weight"): plain[n] for n in sorted(plain, reverse=True)}
    folders = [
        write_adapter(tmp_path / "plain", plain),
        write_adapter(tmp_path / "doubled", doubled),
        write_adapter(tmp_path / "older", older, lora_dropout=0.1, target_modules="all-linear"),
        write_adapter(tmp_path / "pattern", plain, r=8, rank_pattern={"q_proj": 2, ".*proj": 2}),
        write_adapter(
            tmp_path / "alpha", plain, lora_alpha=1, alpha_pattern={Q: 4, "down_proj": 4.0}
        ),
        write_adapter(tmp_path / "base", plain, base_model_name_or_path="x/tiny-instruct-4bit"),
    ]
    versions = [registry.adapters.register(folder, name="legal").version for folder in folders]
    assert {(1, versions[0].digest)} == {(v.number, v.digest) for v in versions}


@pytest.mark.parametrize(
    "change", [{"lora_alpha": 5}, {"use_rslora": True}, {"number": 1}, {"dtype": np.float16}]
)
def test_what_changes_the_answer_makes_another_version(
    registry: Registry, tmp_path: Path, change: dict[str, Any]
) -> None:
    """A change of the scale, of a single number or of the dtype changes the digest."""
    registry.adapters.register(write_adapter(tmp_path / "a"), name="legal")
    made = tensors(dtype=change.get("dtype", np.float32))
    made[f"{PREFIX}{DOWN}.lora_A.weight"][0, 0] += change.get("number", 0)
    config = {key: value for key, value in change.items() if key not in ("dtype", "number")}
    other = registry.adapters.register(write_adapter(tmp_path / "b", made, **config), name="legal")
    assert (2, True) == (other.version.number, other.created)


def test_two_names_may_hold_the_same_content(
    registry: Registry, blobs: LocalBlobs, register: Register
) -> None:
    """Each name has its version; the files exist once; the digest resolves to the older version."""
    digest = register("legal")
    assert digest == register("law")
    assert {digest} == blobs.digests()
    resolved = registry.versions.resolve(parse_reference(digest))
    assert resolved == registry.versions.resolve(parse_reference("legal@1"))


def test_the_source_folder_is_only_read(registry: Registry, tmp_path: Path) -> None:
    """The source folder is unchanged, and the version does not need it."""
    folder = write_adapter(tmp_path / "a")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    registry.adapters.register(folder, name="legal")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_lost_blob_comes_back_by_registering_again(
    registry: Registry, blobs: LocalBlobs, register: Register
) -> None:
    """The row stays, and a new registration restores the files."""
    digest = register("legal")
    blobs.delete(digest)
    assert digest == register("legal")
    blobs.verify(digest)


# Refusals: nothing is stored


def test_a_refused_adapter_leaves_nothing(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """The error has the report and shows the first five problems."""
    made = {name: tensor[:, :1] for name, tensor in tensors(*[Q, DOWN]).items()}
    folder = write_adapter(tmp_path / "bad", made, base_model_name_or_path="acme/Other")
    with pytest.raises(AdmissionRefused) as caught:
        registry.adapters.register(folder, name="legal")
    assert not caught.value.report.accepted
    assert "A020 pair-mismatch" in str(caught.value)
    _assert_untouched(registry, blobs, tmp_path)


@pytest.mark.parametrize(
    "name", ["../up", "/abs", "a\0b", "Ünïcode", "a/../b", "a b", "", "0" * 64]
)
def test_hostile_names_reach_neither_disk_nor_database(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path, name: str
) -> None:
    """Invalid names are refused before the folder is read."""
    with pytest.raises(NameInvalid):
        registry.adapters.register(write_adapter(tmp_path / "a"), name=name)
    _assert_untouched(registry, blobs, tmp_path)


def test_a_bad_alias_or_base_stops_everything(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """An invalid alias or an unknown base is refused, and nothing is stored."""
    folder = write_adapter(tmp_path / "a")
    with pytest.raises(AliasInvalid):
        registry.adapters.register(folder, name="legal", alias="3")
    with pytest.raises(UnknownBase):
        registry.adapters.register(folder, name="legal", base="acme/Other")
    _assert_untouched(registry, blobs, tmp_path)


def test_a_taken_name_leaves_no_files(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """The name of a composition is refused before files are copied."""
    registry.compositions.add(
        "mix", expression="x", recipe_text="{}", recipe_digest="0" * 64, base=BASE,
        ingredients=[], actor="me",
    )  # fmt: skip
    with pytest.raises(NameTaken, match="one composition"):
        registry.adapters.register(write_adapter(tmp_path / "a"), name="mix")
    assert frozenset() == blobs.digests()


def test_a_retired_version_does_not_come_back(registry: Registry, register: Register) -> None:
    """Retirement is permanent: the same content under the same name is refused."""
    register("legal")
    registry.versions.retire(parse_reference("legal@1"), "me")
    with pytest.raises(VersionRetired, match="legal@1"):
        register("legal")
    register("legal-again")


# Failures of the machine


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full, the workspace is removed and no row is written."""
    folder = write_adapter(tmp_path / "a")

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(StorageFailed, match="No space left on device"):
            registry.adapters.register(folder, name="legal")
    _assert_untouched(registry, blobs, tmp_path)
    assert registry.adapters.register(folder, name="legal").created


def test_a_folder_that_cannot_be_read_is_a_clear_error(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input/output error during admission names the cause, and nothing is stored."""
    folder = write_adapter(tmp_path / "a")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(StorageFailed, match="Input/output error"):
            registry.adapters.register(folder, name="legal")
    _assert_untouched(registry, blobs, tmp_path)


def test_a_database_that_fails_leaves_no_version(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files may remain without references, and a second attempt completes the registration."""
    folder = write_adapter(tmp_path / "a")

    def fail(*_: object) -> int:
        raise DatabaseUnavailable("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(queries, "next_number", fail)
        with pytest.raises(DatabaseUnavailable, match="full"):
            registry.adapters.register(folder, name="legal", alias="prod")
    assert () == registry.catalogue.models()
    with pytest.raises(UnknownReference):
        read_adapter(registry, "legal")
    done = registry.adapters.register(folder, name="legal", alias="prod")
    assert (1, True) == (done.version.number, done.created)
    assert {done.version.digest} == blobs.digests()


def test_a_conflict_that_is_not_about_content_is_not_swallowed(
    registry: Registry, database: Database, register: Register, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Only equal content counts as registered; a duplicate number raises an error."""
    register("legal")
    monkeypatch.setattr(queries, "next_number", lambda *_: 1)
    with pytest.raises(Conflict, match="uq_adapter_versions_name_number"):
        register("legal", seed=1)


def test_only_an_accepted_report_is_stored(
    registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """`store` refuses a folder that admission refused."""
    report = registry.adapters.check(tmp_path / "nothing")
    with pytest.raises(AdmissionRefused):
        adapters.store(blobs, report)
    assert frozenset() == blobs.digests()


def test_checking_stores_nothing(registry: Registry, blobs: LocalBlobs, tmp_path: Path) -> None:
    """`check` returns the same report as a registration."""
    report = registry.adapters.check(write_adapter(tmp_path / "a"), base="tiny-instruct")
    assert report.accepted
    assert report.folder is not None
    _assert_untouched(registry, blobs, tmp_path)
    (tmp_path / "copy").mkdir()
    normalise_folder(report.folder, tmp_path / "copy", base=report.base)
