"""`make docs`: writes the documents' tables from the code that they describe.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, where NAME is a key of `TABLES`.
Everything else in a document is written by hand. `tests/test_docs.py` fails when a document is not
what this module would write.
"""

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from typer.main import get_command

from merge.adaptive.options import MEANINGS as OPTIONS
from merge.adaptive.options import Options
from merge.methods import METHODS
from registry.admission.findings import CODES
from server.app import create_app
from server.auth import role_of
from server.cli.main import app
from server.engine.fake import FakeEngine
from server.errors import ERRORS, INTERNAL, NO_SUCH_ROUTE
from server.gateway import Gateway
from server.home import open_registry
from server.jobs.failures import MEANINGS
from server.settings import Settings
from server.telemetry.metrics import Metrics
from tests.engine.clients.environments import CLIENTS
from tests.serving import serving

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "METHODS.md", "ADAPTIVE.md", "REFERENCE.md", "CONTRIBUTING.md")
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHARED_FLAGS = {"--help", "--home", "--json", "--key", "--server"}


def rendered(text: str) -> str:
    """Return a document with every marked table written anew.

    Raises:
        KeyError: a marker names no table.
    """
    return _MARKED.sub(lambda marked: f"{marked[1]}{table(marked[2])}\n{marked[3]}", text)


@cache
def table(name: str) -> str:
    """Return one table as Markdown."""
    columns, rows = TABLES[name]
    lines = [columns, ["---"] * len(columns), *rows()]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _settings() -> Iterator[list[str]]:
    for name, field in Settings.model_fields.items():
        empty = field.is_required() or field.default in (None, {})
        default = "" if empty else field.default
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        yield [_code(f"WEFT_{name.upper()}"), _code(shown), field.description or ""]


def _methods() -> Iterator[list[str]]:
    for name, method in sorted(METHODS.items()):
        options = ", ".join(_code(f"{o}={p.default}") for o, p in method.parameters.items())
        yield [_code(name), method.paper, method.title, options, method.differs or ""]


def _laws() -> Iterator[list[str]]:
    for name, method in sorted(METHODS.items()):
        for law, reason in sorted(method.exempt.items()):
            yield [_code(name), law, reason]


def _options() -> Iterator[list[str]]:
    for name, default in Options().to_json().items():
        shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        yield [_code(name), "" if default is None else _code(shown), OPTIONS[name]]


def _errors() -> Iterator[list[str]]:
    rows = (*ERRORS.values(), INTERNAL, NO_SUCH_ROUTE)
    for row in sorted(rows, key=lambda row: (row.status, row.code)):
        yield [str(row.status), _code(row.code), row.meaning]


def _job_errors() -> Iterator[list[str]]:
    for code, meaning in MEANINGS.items():
        yield [_code(code), meaning]


def _findings() -> Iterator[list[str]]:
    for name, code in CODES.items():
        yield [_code(name), code.severity, code.sentence]


def _metrics() -> Iterator[list[str]]:
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        yield [_code(family.name + suffix), family.documentation]


def _routes() -> Iterator[list[str]]:
    rows = []
    for route in _app().routes:
        if isinstance(route, APIRoute):
            path = route.path.replace(":path", "")
            rows += [
                [path, method, _code(role_of(route) or ""), route.description.partition("\n")[0]]
                for method in route.methods
            ]
    for path, *rest in sorted(rows):
        yield [_code(path), *rest]


@cache
def _app() -> FastAPI:
    """Return the gateway's app over an empty registry."""
    home = tempfile.TemporaryDirectory()
    settings = Settings(home=Path(home.name))
    registry, versions = open_registry(settings)
    engine = FakeEngine("base")
    gateway = Gateway(
        settings, registry=registry, versions=versions, bases=serving(settings, engine)
    )
    return create_app(gateway)


def _commands() -> Iterator[list[str]]:
    root = get_command(app)
    for words, command in sorted(_leaves(root, ["weft"])):
        arguments = [_metavar(p) for p in _parameters(command, "argument")]
        flags = [max(p.opts, key=len) for p in _parameters(command, "option")]
        own = [flag for flag in flags if flag not in _SHARED_FLAGS]
        sentence = command.help.partition("\n\n")[0]
        yield [
            _code(" ".join([*words, *arguments])),
            sentence,
            ", ".join(_code(flag) for flag in own),
            "yes" if "--server" in flags else "",
        ]


def _parameters(command: Any, kind: str) -> list[Any]:
    return [param for param in command.params if param.param_type_name == kind]


def _metavar(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _leaves(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    """Yield every command that is not a group, with the words that call it.

    Typer brings its own copy of click, so commands are told apart by what they can do.
    """
    if not hasattr(command, "list_commands"):
        yield words, command
        return
    context = command.context_class(command)
    for name in command.list_commands(context):
        yield from _leaves(command.get_command(context, name), [*words, name])


def _targets() -> Iterator[list[str]]:
    """Yield the Makefile's targets with the comment above each."""
    makefile = (ROOT / "Makefile").read_text()
    for comment, target in re.findall(r"^((?:# .*\n)+)([a-z-]+):", makefile, re.MULTILINE):
        yield [_code(f"make {target}"), comment.replace("\n# ", " ").removeprefix("# ")]


def _clients() -> Iterator[list[str]]:
    for client in CLIENTS:
        yield [client.name, client.version, client.tried]


Rows = Callable[[], Iterable[list[str]]]
TABLES: Mapping[str, tuple[list[str], Rows]] = {
    "settings": (["variable", "default", "meaning"], _settings),
    "methods": (["method", "paper", "what it is", "options", "where it differs"], _methods),
    "laws": (["method", "law", "reason"], _laws),
    "options": (["option", "default", "meaning"], _options),
    "errors": (["status", "code", "meaning"], _errors),
    "job_errors": (["code", "meaning"], _job_errors),
    "findings": (["code", "severity", "meaning"], _findings),
    "metrics": (["metric", "meaning"], _metrics),
    "routes": (["path", "method", "role", "what it does"], _routes),
    "commands": (["command", "what it does", "options", "`--server`"], _commands),
    "clients": (["client", "version", "what is tried"], _clients),
    "targets": (["target", "what it does"], _targets),
}


def main() -> None:
    """Rewrite the documents where they differ, and print which."""
    for name in DOCUMENTS:
        path = ROOT / name
        before = path.read_text()
        after = rendered(before)
        if after != before:
            path.write_text(after)
            print(f"{name}: tables rewritten")  # noqa: T201


if __name__ == "__main__":
    main()
