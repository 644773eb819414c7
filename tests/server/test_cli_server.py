"""The command line against a running server: the same commands through its API and keys."""

import json

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
