"""How the command line talks: tables and progress on a terminal, plain lines elsewhere."""

import getpass
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, ParamSpec, Protocol, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from merge.errors import MergeError
from merge.peft_format import FormatError
from registry.errors import RegistryError
from server.base_model import BaseUnreadable
from server.compose.expression import ExpressionInvalid
from server.compose.resolve import NotAnIngredient
from server.compose.retrieve import RetrievalInvalid
from server.embedders import EncoderUnavailable
from server.engine.launch import EngineStartFailed
from server.jobs.datasets import DatasetInvalid
from server.probe.run import ProbeFailed
from server.unpickle import ConversionFailed

# A pipe has no width; eighty columns would fold every table.
console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_P = ParamSpec("_P")
_R = TypeVar("_R")
# What a user can cause and mend; anything else is a fault of ours and keeps its traceback.
_EXPECTED = (
    MergeError, FormatError, RegistryError, ExpressionInvalid, NotAnIngredient, EngineStartFailed,
    BaseUnreadable, ConversionFailed, ProbeFailed, EncoderUnavailable, RetrievalInvalid,
    DatasetInvalid, OSError,
)  # fmt: skip


def explained(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn expected errors of a command into one sentence and exit code 1."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except ValidationError as error:
            lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise fail("bad setting: " + "; ".join(lines)) from error
        except _EXPECTED as error:
            raise fail(str(error)) from error

    return run


def fail(message: str) -> typer.Exit:
    """Print `message` to stderr and return the exit to raise."""
    errors.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def warn(message: str) -> None:
    """Print `message` to stderr; the command goes on."""
    errors.print(f"[yellow]warning:[/yellow] {escape(message)}", highlight=False, soft_wrap=True)


def cut_short(error: Exception, done: int, total: int) -> typer.Exit:
    """Say that an import of many ended before its end, and return the exit to raise."""
    said = f"the import stopped after {done} of {total} adapters: {error}"
    return fail(f"{said} Run it again to go on from there.")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def print_json(value: object) -> None:
    """Print a value for programs."""
    typer.echo(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Print one line as it is."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def minute(text: str) -> str:
    """Return a moment of the API's as people read it, in UTC."""
    return text[:16].replace("T", " ")


def pairs(texts: Iterable[str]) -> dict[str, object]:
    """Return options that were written as name=value."""
    options: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise fail(f"--option {text!r}: write name=value")
        options[name] = value
    return options


class ShowProgress(Protocol):
    """Shows how far something is, and what it is at where that changes."""

    def __call__(self, done: int, total: int, title: str | None = None) -> None:
        """Show it."""


@contextmanager
def progress_bar(title: str) -> Iterator[ShowProgress]:
    """Yield what shows a bar; nothing is shown where there is no terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, title: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=title)

        yield show


def actor() -> str:
    """Return who is at the command line, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
