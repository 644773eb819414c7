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
try:
    app(sys.argv[1:])
except SystemExit as ended:
    print("code", ended.code, file=sys.stderr)
print("modules", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def modules_after(*words: str) -> set[str]:
    """Run a command that succeeds in a fresh interpreter and return the packages it imported."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, *words], capture_output=True, text=True, check=True
    )
    lines = ended.stderr.splitlines()
    assert "code 0" in lines, ended.stderr
    return set(lines[-1].split()[1:])


@pytest.mark.parametrize("words", ["--help", "--version", "adapters --help", "jobs list --help"])
def test_help_imports_nothing_heavy(words: str) -> None:
    """Help and version come before any package that takes long to import."""
    forbidden = NOTHING - {"httpx"} if words == "jobs list --help" else NOTHING
    assert set() == modules_after(*words.split()) & forbidden


@pytest.mark.parametrize(
    "words",
    [
        "adapters list", "adapters show zorp", "adapters show zorp@1", "adapters alias zorp live 1",
        "adapters tag zorp law", "search --filter tag=law", "keys list", "compositions list",
        "bases list", "jobs list", "artifacts list", "audit", "gc", "db upgrade",
    ],
)  # fmt: skip
def test_commands_on_the_registry_import_no_model_library(weft: Weft, words: str) -> None:
    """A command that merges nothing imports no torch; one on a current database no Alembic."""
    assert set() == modules_after(*words.split()) & DATABASE


@pytest.mark.parametrize("words", ["adapters list", "search law", "keys list", "jobs list"])
def test_commands_on_a_server_import_no_database(
    weft: Weft, url: str, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """With --server a command is an HTTP client and nothing else."""
    for name in ("WEFT_MODEL", "WEFT_SERVED_BASE"):
        monkeypatch.delenv(name)
    used = modules_after(*words.split(), "--server", url, "--key", "secret")
    assert set() == used & (HEAVY | {"sqlalchemy", "fastapi"})


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
