"""The imports of each command in a fresh interpreter: nothing heavy before it is needed."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from server.cli.console import EXPECTED
from tests.server.conftest import Weft

HEAVY = {"torch", "transformers", "vllm", "sentence_transformers", "sklearn", "openai"}
DATABASE = HEAVY | {"alembic", "huggingface_hub", "uvicorn"}
NOTHING = HEAVY | {"sqlalchemy", "fastapi", "httpx", "numpy"}  # Typer itself imports pydantic
_RUN = """
import sys
from server.cli import app
for words in sys.argv[1:]:
    try:
        app(words.split())
    except SystemExit as ended:
        print("code", ended.code, file=sys.stderr)
    packages = {name.partition(".")[0] for name in sys.modules}
    print("modules", words, *packages, sep="\\t", file=sys.stderr)
"""


def modules_after(*commands: str) -> dict[str, set[str]]:
    """Run commands in turn in one fresh interpreter; return the packages imported after each."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, *commands], capture_output=True, text=True, check=True
    )
    lines = ended.stderr.splitlines()
    assert len(commands) == lines.count("code 0"), ended.stderr
    rows = [line.split("\t")[1:] for line in lines if line.startswith("modules\t")]
    return {words: set(packages) for words, *packages in rows}


def of_them(commands: dict[str, set[str]], forbidden: set[str]) -> dict[str, set[str]]:
    """Return the commands after which forbidden packages were imported, with these packages."""
    return {words: used & forbidden for words, used in commands.items() if used & forbidden}


def test_help_imports_nothing_heavy() -> None:
    """Help and version come before any package that takes long to import."""
    assert {} == of_them(modules_after("--version", "--help", "adapters --help"), NOTHING)
    assert {} == of_them(modules_after("jobs list --help"), NOTHING - {"httpx"})


def test_commands_on_the_registry_import_no_model_library(weft: Weft) -> None:
    """A command that merges nothing imports no torch; one on a current database no Alembic."""
    commands = modules_after(
        "adapters list", "adapters show zorp", "adapters show zorp@1", "adapters alias zorp live 1",
        "adapters tag zorp law", "search --filter tag=law", "keys list", "compositions list",
        "bases list", "jobs list", "artifacts list", "audit", "gc", "db upgrade",
    )  # fmt: skip
    assert {} == of_them(commands, DATABASE)


def test_commands_on_a_server_import_no_database(
    weft: Weft, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --server a command is an HTTP client and nothing else."""
    for name in ("WEFT_MODEL", "WEFT_SERVED_BASE"):
        monkeypatch.delenv(name)
    there = f"--server {url} --key secret"
    commands = ("adapters list", "search law", "keys list", "jobs list")
    used = modules_after(*(f"{words} {there}" for words in commands))
    assert {} == of_them(used, HEAVY | {"sqlalchemy", "fastapi"})


def test_every_expected_error_exists() -> None:
    """The names of expected errors are names of classes."""
    for name in EXPECTED:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(import_module(module), kind), Exception)


def test_a_misspelt_path_names_the_near_one(weft: Weft, tmp_path: Path) -> None:
    """A file that does not exist is named as a whole path, with the near name beside it."""
    (tmp_path / "examples.jsonl").touch()
    result = weft("adapt", "exampels.jsonl")
    assert f"{tmp_path}/exampels.jsonl does not exist" in result.stderr
    assert f"did you mean {tmp_path}/examples.jsonl?" in result.stderr
