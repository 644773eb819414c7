"""The command line against a running server: the same commands through its API and keys."""

import json
from pathlib import Path

import pytest

from registry.service import Registry
from tests.reading import read_adapter, read_composition
from tests.server.commands import adapter, failed, words
from tests.server.conftest import Weft


def test_commands_do_there_what_they_do_here(remote: Weft, registry: Registry) -> None:
    """Names, aliases, tags, compositions, keys and search work through the API."""
    assert "zorp" in words(remote("adapters", "list"))
    words(remote("adapters", "alias", "zorp", "stable", 1))
    assert "stable" in words(remote("adapters", "show", "zorp"))
    words(remote("adapters", "tag", "zorp", "law"))
    words(remote("compositions", "add", "mix", "cat(zorp, blim)"))
    assert ("law",) == registry.search.descriptions.tags("zorp")
    assert "cat(zorp, blim)" == read_composition(registry, "mix").versions[0].expression
    words(remote("keys", "create", "ci", "--role", "read"))
    assert "ci" in words(remote("keys", "list"))
    found = json.loads(remote("search", "--filter", "tag=law", "--json").stdout)
    assert ["zorp@1"] == [hit["reference"] for hit in found]
    words(remote("adapters", "quarantine", "zorp@1", "--reason", "in verse"))
    assert "in verse" == read_adapter(registry, "zorp").versions[0].status_reason
    words(remote("adapters", "release", "zorp@1"))
    assert "admitted" == read_adapter(registry, "zorp").versions[0].status
    assert [] == json.loads(remote("gc", "--json").stdout)


def test_folders_are_uploaded(remote: Weft, registry: Registry) -> None:
    """One folder or several are uploaded; equal content is known, and a refused adapter does not
    stop the others.
    """
    assert {"admitted", "legal@1"} <= words(
        remote("adapters", "import", adapter("krun"), "--name", "legal", "--alias", "live")
    )
    assert [("live", 1)] == [(a.alias, a.number) for a in read_adapter(registry, "legal").aliases]
    several = json.loads(
        remote("adapters", "import", adapter("krun").parent, "--name", "copies", "--json").stdout
    )
    assert {"copies/zorp", "copies/blim"} < {item["name"] for item in several}
    assert {"admitted"} == {item["result"] for item in several}
    again = json.loads(
        remote("adapters", "import", adapter("krun"), "--name", "legal", "--json").stdout
    )
    assert [("known", "legal@1")] == [(item["result"], item["version"]) for item in again]


def test_what_goes_wrong_there_is_a_sentence_here(
    remote: Weft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's refusals, a server that cannot be reached and a missing key are one sentence
    each.
    """
    failed(remote("adapters", "show", "zor"), "Nothing is registered as 'zor'", "zorp")
    failed(remote("adapters", "import", "hf:acme/legal"), "import from the Hub on its machine")
    failed(remote("gc", "--budget-bytes", 1), "WEFT_ARTIFACT_BUDGET_BYTES")
    monkeypatch.setenv("WEFT_KEY", "wrong")
    failed(remote("adapters", "list"), "valid key")
    monkeypatch.setenv("WEFT_SERVER", "http://127.0.0.1:9")
    failed(remote("adapters", "list"), "no answer from http://127.0.0.1:9")


def test_the_status_of_a_server_is_one_screen(remote: Weft) -> None:
    """`weft status` shows the gateway, the engine, residency, the queue and the disk."""
    shown = " ".join(remote("status").stdout.split())
    for part in ("gateway", "takes requests", "0 of 0 loaded adapters", "0 jobs queued", "0.00 GB"):
        assert part in shown


def test_the_last_admin_key_is_revoked_only_by_force(remote: Weft) -> None:
    """`weft keys revoke` refuses the last admin key and says what it means, until `--force`."""
    words(remote("keys", "create", "boss", "--role", "admin", "--all-namespaces"))
    words(remote("keys", "create", "second", "--role", "admin", "--all-namespaces"))
    words(remote("keys", "revoke", "second"))
    failed(remote("keys", "revoke", "boss"), "boss is the last admin key", "--force")
    assert "boss is revoked" in remote("keys", "revoke", "boss", "--force").stdout


def test_a_command_that_ignores_the_server_says_so(
    weft: Weft, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With WEFT_SERVER set, `weft db dump` notes that it works on files."""
    monkeypatch.setenv("WEFT_SERVER", "http://127.0.0.1:1")
    result = weft("db", "dump", tmp_path / "weft.dump")
    assert "WEFT_SERVER is set, but this command works on the files of this machine" in " ".join(
        result.output.split()
    )
