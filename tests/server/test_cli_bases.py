"""Which base an import and a check take, and whether the advice in a refusal works when followed.

Every command here runs without a network: the built-in base needs none.
"""

import json
import re
from pathlib import Path

import pytest

from server.base_model import BaseUnreadable
from tests.adapters import make_adapter
from tests.server.commands import failed, words
from tests.server.conftest import BASE, DEMO, Weft

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_MODULES = {"model.layers.0.self_attn.q_proj": (4096, 4096)}
DEMO_MODULES = {"model.layers.0.self_attn.q_proj": (192, 192)}


@pytest.fixture
def fresh(weft: Weft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weft:
    """Commands in a home that does not exist yet, with no WEFT_MODEL: the base is the default."""
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "fresh"))
    monkeypatch.delenv("WEFT_MODEL")
    monkeypatch.delenv("WEFT_SERVED_BASE")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return weft


@pytest.fixture
def llama_adapter(tmp_path: Path) -> Path:
    """An adapter for the default base."""
    return make_adapter(tmp_path / "legal", modules=LLAMA_MODULES, base=LLAMA, size=0.01)


def test_check_and_import_know_the_default_base_in_an_empty_home(
    fresh: Weft, llama_adapter: Path, tmp_path: Path
) -> None:
    """`check` admits and creates nothing; `import` then admits the same folder."""
    assert "admitted:" in words(fresh("check", llama_adapter))
    assert not (tmp_path / "fresh").exists()
    done = fresh("adapters", "import", llama_adapter, "--alias", "prod")
    assert "legal@1" in words(done)
    assert LLAMA in words(fresh("bases", "list"))


def test_an_import_knows_the_base_of_weft_model(
    fresh: Weft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import into a home that no server has used registers WEFT_MODEL's base."""
    monkeypatch.setenv("WEFT_MODEL", str(DEMO / "base"))
    monkeypatch.setenv("WEFT_SERVED_BASE", BASE)
    folder = make_adapter(tmp_path / "poems", modules=DEMO_MODULES, base=BASE)
    assert "admitted:" in words(fresh("check", folder))
    assert "poems@1" in words(fresh("adapters", "import", folder))


def test_a_base_served_under_another_name_keeps_its_own(
    fresh: Weft, llama_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters name the Hub id, whatever clients call the base."""
    monkeypatch.setenv("WEFT_SERVED_BASE", "llama")
    assert "admitted:" in words(fresh("check", llama_adapter))
    assert "legal@1" in words(fresh("adapters", "import", llama_adapter))


def test_a_base_that_cannot_be_read_stops_no_import_for_another(
    weft: Weft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WEFT_MODEL unreachable: the registered bases are known, and the reason is printed."""

    def unreachable(model: str) -> object:
        raise BaseUnreadable(f"no config.json for {model}: offline")

    monkeypatch.setattr("server.base_model.read_model_config", unreachable)
    monkeypatch.setenv("WEFT_MODEL", "acme/far-away")
    monkeypatch.setenv("WEFT_SERVED_BASE", "far")
    folder = make_adapter(tmp_path / "poems", modules=DEMO_MODULES, base=BASE)
    for command in (("check", folder), ("adapters", "import", folder)):
        result = weft(*command)
        assert 0 == result.exit_code, result.output
        assert "acme/far-away" in result.stderr


def advice(text: str) -> list[list[str]]:
    """Return the `weft` commands that a message quotes, as words."""
    return [command.split() for command in re.findall(r"`weft ([^`]+)`", text.replace("\n", " "))]


def expected(weft: Weft, *command: object) -> str:
    """Return the `expected` field of the one finding of a refused check or import."""
    report = json.loads(weft("check", *command, "--json").stdout)
    (finding,) = report["findings"]
    assert "refuse" == finding["severity"]
    return str(finding["expected"])


@pytest.mark.parametrize("which", ["alias", "new"])
def test_each_command_that_an_unknown_base_advises_makes_the_import_work(
    weft: Weft, tmp_path: Path, which: str
) -> None:
    """A030: another spelling of a registered base, or a base of its own."""
    folder = make_adapter(tmp_path / "poems", modules=DEMO_MODULES, base="gemma3-270m-it")
    alias, new = advice(expected(weft, folder))
    command = {"alias": alias, "new": new}[which]
    model = {"MODEL": str(DEMO / "base"), "BASE": BASE}
    assert 0 == weft(*(model.get(word, word) for word in command)).exit_code
    assert "poems@1" in words(weft("adapters", "import", folder))


@pytest.mark.parametrize("which", [0, 1])
def test_each_command_that_a_mismatch_advises_makes_the_import_work(
    weft: Weft, tmp_path: Path, which: int
) -> None:
    """A031: leave --base out where the config's base is registered, or give it as a spelling."""
    folder = make_adapter(tmp_path / "poems", modules=DEMO_MODULES, base="gemma3-270m-it")
    (alias,) = advice(expected(weft, folder, "--base", BASE))
    if which == 0:
        assert 0 == weft(*alias).exit_code
        assert "poems@1" in words(weft("adapters", "import", folder, "--base", BASE))
        return
    other = make_adapter(tmp_path / "prose", modules=DEMO_MODULES, base=BASE)
    weft("bases", "add", "acme/base", "--model", DEMO / "base")
    assert "without --base" in expected(weft, other, "--base", "acme/base")
    assert "prose@1" in words(weft("adapters", "import", other))


@pytest.mark.parametrize("said", [None, "/home/somebody/llama"])
def test_a_base_that_is_not_named_is_given_with_the_option(
    weft: Weft, tmp_path: Path, said: str | None
) -> None:
    """A032: `--base` with one of the names that the finding lists."""
    folder = make_adapter(tmp_path / "poems", modules=DEMO_MODULES, base=said)
    text = expected(weft, folder)
    assert f"--base {BASE}" in text
    assert "poems@1" in words(weft("adapters", "import", folder, "--base", BASE))


def test_an_unknown_base_option_says_how_to_register_it(weft: Weft, tmp_path: Path) -> None:
    """`--base` with an unregistered name: the command in the message registers it."""
    folder = make_adapter(tmp_path / "poems", modules=DEMO_MODULES, base=None)
    result = weft("adapters", "import", folder, "--base", "acme/new")
    failed(result, "acme/new", BASE)
    (command,) = advice(result.stderr)
    assert 0 == weft(*(str(DEMO / "base") if w == "MODEL" else w for w in command)).exit_code
    assert "poems@1" in words(weft("adapters", "import", folder, "--base", "acme/new"))


def test_a_spelling_is_added_to_a_registered_base_without_its_config(fresh: Weft) -> None:
    """`bases add NAME --alias OTHER` asks the Hub for nothing when the base is known."""
    assert 0 == fresh("bases", "add", LLAMA, "--alias", "mine/other-llama").exit_code
    assert "other-llama" in words(fresh("bases", "list"))
