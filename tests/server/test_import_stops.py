"""`weft adapters import` stops when every remaining import would fail, and can be resumed."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server.cli.client import Client, ServerRefused
from tests.server.commands import failed, words
from tests.server.conftest import DEMO, Weft

MANY = DEMO / "adapters"
COUNT = len(list(MANY.iterdir()))
WORDS = ("adapters", "import", MANY, "--name", "team")


def fill_after(count: int, patch: pytest.MonkeyPatch) -> None:
    """Limit the store to this number of additional adapters."""
    adopt, calls = LocalBlobs.adopt, []

    def filling(self: LocalBlobs, folder: Path) -> str:
        calls.append(folder)
        if len(calls) > count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return adopt(self, folder)

    patch.setattr(LocalBlobs, "adopt", filling)


def test_a_full_disk_is_one_error(weft: Weft, registry: Registry) -> None:
    """The table has the finished imports and the error their number; a second run completes the
    rest.
    """
    with pytest.MonkeyPatch.context() as patch:
        fill_after(2, patch)
        result = weft(*WORDS)
    failed(result, f"stopped after 2 of {COUNT} adapters", "No space left", "again")
    assert 1 == result.stderr.count("No space left")
    assert 2 == result.stdout.count("team/")
    assert "StorageFailed" not in result.output
    assert {"known", "new"} <= words(weft(*WORDS))
    assert COUNT == sum(a.name.startswith("team/") for a in registry.catalogue.adapters().items)


def test_json_has_what_was_done(weft: Weft) -> None:
    """The JSON has the results so far, and the exit code is 1."""
    with pytest.MonkeyPatch.context() as patch:
        fill_after(2, patch)
        result = weft(*WORDS, "--json")
    assert 1 == result.exit_code
    assert ["admitted"] * 2 == [item["result"] for item in json.loads(result.stdout)]


def test_a_server_that_nobody_finds_is_asked_once(weft: Weft) -> None:
    """An unreachable server gets one request, not one per adapter."""
    result = weft(*WORDS, "--server", "http://127.0.0.1:9")
    failed(result, f"stopped after 0 of {COUNT} adapters", "no answer from")


@pytest.mark.parametrize(("status", "sent"), [(507, 3), (422, COUNT)])
def test_a_server_that_fails_stops_all_and_a_refusal_none(
    weft: Weft, monkeypatch: pytest.MonkeyPatch, status: int, sent: int
) -> None:
    """A failing server stops the import; a refusal does not."""
    calls: list[object] = []

    def ask(_: Client, *path: object, **__: object) -> Any:
        calls.append(path)
        if len(calls) == 3:
            raise ServerRefused("no room, or no good", status)
        version = {"name": "x", "number": 1, "digest": "0" * 64}
        return {"created": True, "version": version, "similar": []}

    monkeypatch.setattr(Client, "ask", ask)
    result = weft(*WORDS, "--server", "http://127.0.0.1:9")
    assert (1, sent) == (result.exit_code, len(calls))
    assert (status == 507) == ("stopped after 2" in result.stderr)
    assert (status == 422) == ("no good" in result.stdout)
