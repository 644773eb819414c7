"""Helpers for the output of `weft` commands: words of success, one sentence of failure."""

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from tests.server.conftest import DEMO

DigestOf = Callable[[str], str]


def failed(result: Result, *says: str) -> None:
    """Check that a command failed with exit code 1, one sentence and no traceback."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output
    for text in says:
        assert text in result.stderr.replace("\n", " ")


def words(result: Result) -> set[str]:
    """Return the words of a command's output."""
    assert result.exit_code == 0, result.output
    return set(result.stdout.split())


def adapter(name: str) -> Path:
    """Return the folder of a demo adapter."""
    return DEMO / "adapters" / name
