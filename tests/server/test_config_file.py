"""Settings from a file: where it is, what overrides it, and what is refused in it."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from server.cli import app
from server.config_file import ConfigInvalid
from server.settings import Settings


def written(path: Path, text: str) -> Path:
    """Write a file of settings and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_flags_then_variables_then_the_file_then_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the places that set a setting the first counts: flag, variable, file, default."""
    file = written(tmp_path / "a.toml", "port = 1\nmax_loras = 2\nmerge_threads = 3\n")
    monkeypatch.setenv("WEFT_CONFIG", str(file))
    monkeypatch.setenv("WEFT_MAX_LORAS", "4")
    monkeypatch.setenv("WEFT_PORT", "5")

    settings = Settings(port=6)

    assert (6, 4, 3) == (settings.port, settings.max_loras, settings.merge_threads)
    assert settings.merge_workers == Settings.model_fields["merge_workers"].default


@pytest.mark.parametrize("by_flag", [True, False], ids=["flag", "variable"])
def test_the_home_has_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_flag: bool
) -> None:
    """Without WEFT_CONFIG, weft.toml is read in the home that a flag or a variable names."""
    home = written(tmp_path / "home/weft.toml", 'licences = ["mit", "bsd"]').parent
    if not by_flag:
        monkeypatch.setenv("WEFT_HOME", str(home))

    settings = Settings(home=home) if by_flag else Settings()

    assert ("mit", "bsd") == settings.licences


def test_a_named_file_replaces_the_home_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that WEFT_CONFIG names may set the home, and weft.toml there is not read."""
    home = written(tmp_path / "home/weft.toml", "port = 1").parent
    file = written(tmp_path / "b.toml", f'home = "{home}"')
    monkeypatch.setenv("WEFT_CONFIG", str(file))

    settings = Settings()

    assert (home, 8000) == (settings.home, settings.port)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", r"weft\.toml: prot is not a setting of weft; did you mean port\?"),
        ("WEFT_PORT = 1", r"WEFT_PORT is not a setting of weft; did you mean port\?"),
        ("[engine]\nurl = 'http://a'", r"engine is not a setting of weft; did you mean engine_"),
        ('config = "other.toml"', "config is not a setting"),
        ('home = "/srv"', "cannot set `home`: set WEFT_HOME"),
        ("port = ", r"weft\.toml is not TOML: Invalid value"),
        ("port = 1\nport = 2", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    """A key that is no setting, and a file that is not TOML, are errors that name the file."""
    written(tmp_path / "weft.toml", text)
    with pytest.raises(ConfigInvalid, match=message):
        Settings(home=tmp_path)


@pytest.mark.parametrize(("text", "name"), [("port = 70000", "port"), ("api_keys = []\n", None)])
def test_values_of_the_file_are_checked(tmp_path: Path, text: str, name: str | None) -> None:
    """A value of the file is held to the same limits as a variable's."""
    written(tmp_path / "weft.toml", text)
    if name is None:
        assert () == Settings(home=tmp_path).api_keys
        return
    with pytest.raises(ValidationError) as caught:
        Settings(home=tmp_path)
    assert [(name,)] == [error["loc"] for error in caught.value.errors()]


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A file that is named and missing is an error that names it, not a start with defaults."""
    with pytest.raises(ConfigInvalid, match=r"settings .*missing\.toml cannot be read"):
        Settings(config=tmp_path / "missing.toml")


def test_the_command_line_explains_it(tmp_path: Path) -> None:
    """A command prints the mistake in one line and exits with 1."""
    file = written(tmp_path / "weft.toml", "prot = 1")

    ended = CliRunner().invoke(app, ["adapters", "list", "--home", str(file.parent)])

    assert ended.exit_code == 1
    assert "did you mean port?" in ended.output.replace("\n", " ")
