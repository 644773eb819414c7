"""The `weft` command: its output, its files and its failures (one sentence, exit code 1).

Not covered: `weft merge` (`test_cli_merge.py`).
"""

import json
from pathlib import Path
from typing import Any

import pytest

from registry.service import Registry
from tests.adapters import make_adapter
from tests.reading import read_adapter, read_composition
from tests.server.commands import DigestOf, adapter, failed, words
from tests.server.conftest import BASE, DEMO, Weft


def test_without_a_command_there_is_help(weft: Weft) -> None:
    """`weft` alone lists its commands."""
    result = weft()
    for command in ("serve", "demo", "merge", "check", "adapters", "bases", "compositions", "db"):
        assert command in result.output


def test_check_admits_a_good_adapter(weft: Weft) -> None:
    """A good adapter is exit code 0 and its measurements."""
    result = weft("check", adapter("zorp"))
    assert result.exit_code == 0, result.output
    assert "admitted" in result.stdout
    assert "rank 8" in result.stdout


def test_check_refuses_a_bad_one(weft: Weft, tmp_path: Path) -> None:
    """A bad adapter is exit code 1 with every finding; the JSON has the same findings."""
    bad = make_adapter(tmp_path / "bad", base=BASE)
    (bad / "adapter_model.safetensors").write_bytes(b"junk")
    result = weft("check", bad)
    assert result.exit_code == 1
    assert "refused" in result.stdout
    as_json = weft("check", bad, "--json")
    report = json.loads(as_json.stdout)
    assert (1, False) == (as_json.exit_code, report["accepted"])
    assert report["findings"]


def test_check_against_an_unknown_base_says_so(weft: Weft) -> None:
    """`--base` must name a registered base."""
    failed(weft("check", adapter("zorp"), "--base", "acme/unknown"), "acme/unknown", BASE)


def test_import_registers_a_folder_of_adapters(weft: Weft, registry: Registry) -> None:
    """Each adapter becomes a version under the namespace, with the alias."""
    result = weft("adapters", "import", DEMO / "adapters", "--name", "team", "--alias", "live")
    assert {"team/zorp@1", "team/blim@1", "new"} <= words(result)
    assert {"live": 1} == {a.alias: a.number for a in read_adapter(registry, "team/zorp").aliases}


def test_importing_again_is_known(weft: Weft) -> None:
    """Equal content remains the same version."""
    assert {"known", "zorp@1"} <= words(weft("adapters", "import", adapter("zorp")))


def test_a_refused_import_does_not_stop_the_others(
    weft: Weft, tmp_path: Path, registry: Registry
) -> None:
    """Good adapters are registered, the bad one is named, and the exit code is 1."""
    folder = tmp_path / "many"
    modules = {"model.layers.0.self_attn.q_proj": (192, 192)}
    make_adapter(folder / "good", modules=modules, base=BASE)
    make_adapter(folder / "bad", modules={"model.layers.0.self_attn.q_proj": (16, 16)}, base=BASE)
    result = weft("adapters", "import", folder)
    assert result.exit_code == 1
    assert "refused" in result.stdout
    assert read_adapter(registry, "good").versions
    assert "Traceback" not in result.output


def test_importing_nothing_says_so(weft: Weft, tmp_path: Path) -> None:
    """A folder without adapters is an error that names it."""
    (tmp_path / "empty").mkdir()
    failed(weft("adapters", "import", tmp_path / "empty"), "No adapter in")


def test_list_shows_every_adapter(weft: Weft, digest_of: DigestOf) -> None:
    """The list is a table, or JSON with `--json`."""
    assert {"zorp", "prod→1", digest_of("zorp")} <= words(weft("adapters", "list"))
    rows: list[dict[str, Any]] = json.loads(weft("adapters", "list", "--json").stdout)
    assert len(rows) == 8
    assert {"name": "zorp", "digest": digest_of("zorp"), "aliases": {"prod": 1}}.items() <= next(
        row for row in rows if row["name"] == "zorp"
    ).items()


def test_show_tells_versions_and_moves(weft: Weft, digest_of: DigestOf) -> None:
    """The output has versions with digests, and the history of aliases."""
    result = weft("adapters", "show", "zorp")
    assert digest_of("zorp") in result.stdout.replace("\n", "").replace(" ", "").replace("│", "")
    assert {"prod", "demo"} <= words(result)
    failed(weft("adapters", "show", "zrop"), "zorp")


def test_alias_moves_and_retire_takes_out_of_use(weft: Weft, registry: Registry) -> None:
    """An alias can be moved to a version; a version that an alias points at cannot be retired."""
    assert weft("adapters", "import", adapter("blim"), "--name", "zorp").exit_code == 0
    failed(weft("adapters", "retire", "zorp@1"), "prod")
    assert "version 2" in weft("adapters", "alias", "zorp", "prod", "2").stdout
    assert "retired" in weft("adapters", "retire", "zorp@1").stdout
    assert read_adapter(registry, "zorp").versions[0].retired_at is not None


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["alias", "zorp", "prod", "9"], "zorp@9"),
        (["alias", "zorp", "PROD", "1"], "PROD"),
        (["alias", "zrop", "prod", "1"], "zrop"),
        (["retire", "zorp"], "name@3"),
        (["retire", "zorp@prod"], "name@3"),
        (["retire", "zorp@9"], "zorp@9"),
        (["retire", "Zorp@1"], "Zorp"),
    ],
)
def test_names_that_mean_nothing_are_told(weft: Weft, command: list[str], says: str) -> None:
    """An unknown name is one sentence with the expected form."""
    failed(weft("adapters", *command), says)


def test_bases_are_added_and_listed(weft: Weft) -> None:
    """A base is registered with the shapes of its config, and with aliases."""
    result = weft("bases", "add", "acme/base", "--model", DEMO / "base", "--alias", "acme/other")
    assert "acme/base:" in result.stdout
    assert {"acme/base", BASE, "LlamaForCausalLM"} <= words(weft("bases", "list"))


def test_a_base_without_a_config_is_told(weft: Weft, tmp_path: Path) -> None:
    """A config that is not JSON is an error that names the model."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    failed(weft("bases", "add", "acme/base", "--model", tmp_path / "broken"), "no config.json")


def test_compositions_are_added_and_listed(weft: Weft, registry: Registry) -> None:
    """An expression gets a name, and its references are resolved at that time."""
    result = weft("compositions", "add", "mix", "lego(zorp, blim@prod; rank=8)")
    assert "mix@1" in result.stdout
    assert {"mix", "1"} <= words(weft("compositions", "list"))
    assert BASE == read_composition(registry, "mix").versions[0].base
    assert "mix@2" in weft("compositions", "add", "mix", "cat(zorp, blim)").stdout


def test_a_composition_object_comes_from_a_file(weft: Weft, tmp_path: Path) -> None:
    """What an expression cannot say, weights by module, is saved from a JSON file."""
    file = tmp_path / "mix.json"
    file.write_text(
        '{"method": "linear", "adapters": [{"name": "zorp", "weights": {"*.mlp.*": 0.5}},'
        ' {"name": "blim"}]}'
    )
    assert "mix@1: " in weft("compositions", "add", "mix", "--file", file).stdout
    failed(weft("compositions", "add", "mix", "cat(zorp)", "--file", file), "and not both")
    failed(weft("compositions", "add", "mix"), "give an expression, or --file")
    file.write_text('{"method": ')
    failed(weft("compositions", "add", "mix", "--file", file), "expected a composition object")
    file.write_text('{"method": "linear", "adapters": [{"name": "zrop"}]}')
    failed(weft("compositions", "add", "mix", "--file", file), "zorp")
    failed(weft("compositions", "add", "mix", "--file", tmp_path / "none.json"), "none.json")


@pytest.mark.parametrize(
    ("name", "expression", "says"),
    [
        ("mix", "zorp", "single reference"),
        ("mix", "lego(zorp", "^"),
        ("mix", "cat(zrop)", "zorp"),
        ("mix", "blend(zorp)", "blend"),
        ("zorp", "cat(blim)", "already belongs"),
        ("Mix", "cat(blim)", "is not a valid name"),
    ],
)
def test_a_composition_that_cannot_be_says_why(
    weft: Weft, name: str, expression: str, says: str
) -> None:
    """Invalid names and expressions are one message each."""
    failed(weft("compositions", "add", name, expression), says)


def test_a_composition_is_no_ingredient(weft: Weft) -> None:
    """`compositions add` refuses the same expressions as the server."""
    assert weft("compositions", "add", "mix", "cat(zorp, blim)").exit_code == 0
    failed(weft("compositions", "add", "more", "cat(mix, tref)"), "mix is a composition")


def test_db_upgrade_makes_a_database(weft: Weft, tmp_path: Path) -> None:
    """A new home gets its database; a second run changes nothing."""
    fresh = tmp_path / "fresh"
    for _ in range(2):
        assert "up to date" in weft("db", "upgrade", "--home", fresh).stdout
    assert (fresh / "weft.db").is_file()
    assert "zorp" not in weft("adapters", "list", "--home", fresh).stdout


def test_a_database_that_cannot_be_is_told(weft: Weft, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL without a driver is one sentence that does not contain its password."""
    monkeypatch.setenv("WEFT_DATABASE_URL", "nosuchdb://user:hunter2@host/weft")
    result = weft("adapters", "list")
    failed(result, "nosuchdb")
    assert "hunter2" not in result.output


def test_a_bad_setting_names_itself(weft: Weft, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command reports an invalid setting by its name."""
    monkeypatch.setenv("WEFT_PORT", "eighty")
    failed(weft("serve"), "port")
    failed(weft("adapters", "list"), "port")


def test_a_user_without_a_name_can_work(weft: Weft, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit log records the user id if the user has no name, as in a container."""

    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert weft("adapters", "alias", "zorp", "live", "1").exit_code == 0
    assert "uid" in words(weft("adapters", "show", "zorp"))
