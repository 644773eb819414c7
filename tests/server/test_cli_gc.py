"""`weft gc` at home lists garbage, removes it on request, and logs the removal."""

import os
from pathlib import Path

import pytest

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.upkeep.garbage import Collector
from server.cli.console import actor
from tests.server.commands import words
from tests.server.conftest import Weft


@pytest.fixture
def orphans(versions: LocalBlobs) -> list[str]:
    """Two old folders without a registered artifact."""
    return [_orphan(versions, text) for text in ("one", "two")]


def _orphan(store: LocalBlobs, text: str) -> str:
    with store.workspace() as folder:
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            Path(folder, name).write_text(text)
        digest = store.adopt(folder)
    os.utime(store.path(digest), (0, 0))
    return digest


def _log(registry: Registry) -> list[tuple[str, int, int]]:
    entries = registry.access.audit.page(action="garbage.collected").items
    return [(entry.actor, entry.detail["removed"], entry.detail["bytes"]) for entry in entries]


def test_what_went_is_in_the_log(
    weft: Weft, registry: Registry, versions: LocalBlobs, orphans: list[str]
) -> None:
    """One entry has the actor and the amount; a listing or an empty removal has none."""
    before = versions.digests()
    assert set(orphans) <= words(weft("gc"))
    assert (before, []) == (versions.digests(), _log(registry))
    words(weft("gc", "--delete"))
    assert before - set(orphans) == versions.digests()
    words(weft("gc", "--delete"))
    assert [(actor(), 2, 12)] == _log(registry)


def test_what_went_before_an_error_is_in_the_log(
    weft: Weft, registry: Registry, orphans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that were removed before a disk failed are in the log."""

    def failing(*_: object, **__: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Collector, "sweep", failing)
    result = weft("gc", "--delete")
    assert 1 == result.exit_code
    assert "Input/output error" in result.stderr
    assert [(actor(), len(orphans), 12)] == _log(registry)
