"""The output of `weft adapters import`: refusals, equal content, origins."""

import json
import shutil
from pathlib import Path

import pytest

from registry.service import Registry
from server.cli import importing
from tests.adapters import make_adapter
from tests.server.commands import adapter, failed, words
from tests.server.conftest import BASE, Weft

MODULES = {"model.layers.0.self_attn.q_proj": (192, 192)}


def many(folder: Path) -> Path:
    """Three good adapters and two that are refused for one cause."""
    for seed, name in enumerate(("a", "b", "c")):
        make_adapter(folder / name, modules=MODULES, base=BASE, seed=seed)
    for name in ("x", "y"):
        make_adapter(folder / name, modules={"lm_head": (7, 7)}, base=BASE)
    return folder


def test_of_very_many_the_refused_are_listed(
    weft: Weft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the limit of rows the table has only the refused ones, and the summary has the
    causes.
    """
    monkeypatch.setattr(importing, "_ROWS_SHOWN", 4)
    result = weft("adapters", "import", many(tmp_path / "many"))
    assert 1 == result.exit_code
    assert "Refused" in result.stdout
    rows = [line for line in result.stdout.splitlines() if "folder:" in line]
    assert 2 == len(rows)
    assert {"admitted", "A041"} <= set(result.stdout.split())


@pytest.mark.parametrize("where", ["weft", "remote"])
def test_the_same_content_under_another_name_is_told_as_such(
    where: str, request: pytest.FixtureRequest
) -> None:
    """Equal content is reported as equal and not as similar, and the source is the folder's
    path.
    """
    weft: Weft = request.getfixturevalue(where)
    folder = adapter("zorp")
    printed = weft("adapters", "import", folder, "--name", "copy")
    assert "same content as zorp@1" in " ".join(printed.stdout.replace("│", " ").split())
    (item,) = json.loads(weft("adapters", "import", folder, "--name", "more", "--json").stdout)
    assert f"folder:{folder}" == item["source"]
    assert {"zorp@1", "copy@1"} == {s["reference"] for s in item["similar"] if s["same_content"]}


def test_the_origin_of_what_a_server_gets_is_kept(remote: Weft, registry: Registry) -> None:
    """An upload stores the path on the client's machine, marked as an upload."""
    words(remote("adapters", "import", adapter("krun"), "--name", "legal"))
    (version,) = registry.catalogue.adapter_versions("legal").items
    assert f"upload:folder:{adapter('krun')}" == version.source


def test_a_name_that_cannot_be_one_comes_with_a_suggestion(weft: Weft) -> None:
    """The suggestion for an invalid name works."""
    failed(weft("adapters", "import", adapter("zorp"), "--name", "Legal QA"), "'legal-qa'")
    assert "legal-qa@1" in words(weft("adapters", "import", adapter("zorp"), "--name", "legal-qa"))


def test_digests_in_the_table_are_whole_words_of_twelve(weft: Weft, tmp_path: Path) -> None:
    """Long names and paths never truncate a digest, so it can be copied."""
    folder = tmp_path / ("long-" * 20)
    shutil.copytree(adapter("blim"), folder)
    result = weft("adapters", "import", folder, "--name", "a" * 100)
    (item,) = json.loads(weft("adapters", "import", folder, "--name", "a" * 100, "--json").stdout)
    assert item["digest"][:12] in result.stdout.replace(",", " ").split()
