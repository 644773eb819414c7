"""Output of the command line: tables, progress and errors.

Importing this module imports no other package of weft, so that `weft --help` stays fast.
"""

import getpass
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec, Protocol, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

# A pipe has no width; eighty columns would fold every table.
console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_P = ParamSpec("_P")
_R = TypeVar("_R")
# Errors that a user can cause and correct, by name: importing their modules takes seconds. Anything
# else is a defect of weft and keeps its traceback.
EXPECTED = frozenset({
    "builtins.OSError",
    "pydantic_core._pydantic_core.ValidationError",  # of the settings
    "merge.errors.MergeError",
    "merge.errors.ProcessDied",
    "merge.peft_format.problems.FormatError",
    "registry.errors.RegistryError",
    "server.base_model.BaseUnreadable",
    "server.config_file.ConfigInvalid",
    "server.compose.expression.ExpressionInvalid",
    "server.compose.resolve.NotAnIngredient",
    "server.compose.retrieve.RetrievalInvalid",
    "server.embedders.EncoderUnavailable",
    "server.engine.proof.EngineStartFailed",
    "server.jobs.datasets.DatasetInvalid",
    "server.probe.run.ProbeFailed",
    "server.served_bases.BasesAlike",
    "server.unpickle.ConversionFailed",
})  # fmt: skip


def is_expected(error: BaseException) -> bool:
    """Say whether an error's message is all that a user needs."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return not EXPECTED.isdisjoint(names)


def explained(command: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap a command: an expected error prints its message and exits with 1."""

    @wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if not is_expected(error):
                raise
            raise fail(message_of(error)) from error

    return run


def message_of(error: Exception) -> str:
    """Return what a user has to know of an expected error."""
    if hasattr(error, "errors"):  # pydantic's
        lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return "bad setting: " + "; ".join(line.removeprefix(": ") for line in lines)
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        path = Path(os.fsdecode(error.filename)).absolute()
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, names, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        return f"{path} does not exist{hint}"
    return str(error)


def fail(message: str) -> typer.Exit:
    """Print `message` to stderr and return the exit to raise."""
    errors.print(f"[red]error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def warn(message: str) -> None:
    """Print `message` to stderr; the command goes on."""
    errors.print(f"[yellow]warning:[/yellow] {escape(message)}", highlight=False, soft_wrap=True)


def cut_short(error: Exception, done: int, total: int) -> typer.Exit:
    """Report that an import stopped early, and return the exit to raise."""
    return fail(
        f"the import stopped after {done} of {total} adapters: {error} Run it again to continue."
    )


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def short(digest: str) -> str:
    """Return a digest for a table: 12 characters on a terminal, where every command resolves them
    when they are unique; the whole digest elsewhere."""
    return digest[:12] if console.is_terminal else digest


def print_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Print one line without markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def minute(text: str) -> str:
    """Return an ISO timestamp of the API as `YYYY-MM-DD hh:mm`, UTC."""
    return text[:16].replace("T", " ")


def pairs(texts: Iterable[str]) -> dict[str, object]:
    """Return the options that were written as name=value."""
    options: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise fail(f"--option {text!r}: write name=value")
        options[name] = value
    return options


class ShowProgress(Protocol):
    """Updates a progress bar."""

    def __call__(self, done: int, total: int, title: str | None = None) -> None:
        """Show `done` of `total`; `title` replaces the bar's title."""


@contextmanager
def progress_bar(title: str) -> Iterator[ShowProgress]:
    """Yield a function that updates a progress bar; without a terminal, nothing is shown."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def show(done: int, total: int, title: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=title)

        yield show


def actor() -> str:
    """Return the user's name for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
