"""The `weft` command: every command by name, imported when it is called.

A command's module may import torch, SQLAlchemy or FastAPI. `weft --help` imports none of them: it
reads the first paragraph of each function's docstring from the source.
"""

import ast
import copy
import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module, metadata
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

_GROUPS: Mapping[str, str] = {
    "adapters": "Import, list, describe, export and retire adapters.",
    "artifacts": "List and export merged adapters and their recipes.",
    "bases": "Manage the base models that adapters belong to.",
    "cluster": "Run engines and gateways on a Ray of this machine.",
    "compositions": "Manage named compositions of adapters.",
    "db": "Migrate, dump and restore the database.",
    "jobs": "Manage jobs that learn a merge from examples.",
    "policies": "Manage policies: which adapters may be merged with which.",
    "keys": "Manage API keys. Without any key, the server is open to everybody.",
    "store": "Move the files of a home into an object store.",
}
# The words of a command -> module:function below server.cli.
_COMMANDS: Mapping[str, str] = {
    "serve": "serving:serve",
    "node": "noding:node",
    "status": "status:status",
    "doctor": "doctoring:doctor",
    "demo": "serving:demo",
    "console": "consoling:console",
    "adapt": "adapting:adapt",
    "merge": "merging:merge",
    "check": "checking:check",
    "convert": "probing:convert",
    "gc": "upkeep:gc",
    "search": "searching:search",
    "explain": "explaining:explain",
    "audit": "keys:audit",
    "usage": "usage:usage",
    "adapters list": "adapters:list_adapters",
    "adapters show": "adapters:show_adapter",
    "adapters import": "importing:import_adapters",
    "adapters export": "exporting:export_adapter",
    "adapters push": "exporting:push_adapter",
    "adapters alias": "versions:set_alias",
    "adapters retire": "versions:retire",
    "adapters visibility": "versions:set_visibility",
    "adapters quarantine": "probing:quarantine",
    "adapters release": "probing:release",
    "adapters probe": "probing:probe_adapters",
    "adapters tag": "searching:tag",
    "adapters examples": "searching:set_examples",
    "adapters lineage": "artifacts:show_lineage",
    "adapters evaluate": "evaluating:evaluate",
    "adapters evaluations": "evaluating:list_evaluations",
    "artifacts list": "artifacts:list_artifacts",
    "artifacts show": "artifacts:show_artifact",
    "artifacts export": "exporting:export_artifact",
    "bases add": "bases:add_base",
    "bases list": "bases:list_bases",
    "bases show": "bases:show_base",
    "cluster up": "clustering:up",
    "cluster status": "clustering:status",
    "cluster down": "clustering:down",
    "compositions add": "compositions:add_composition",
    "compositions list": "compositions:list_compositions",
    "compositions show": "compositions:show_composition",
    "compositions publish": "compositions:publish",
    "compositions warm": "compositions:warm",
    "compositions alias": "versions:set_alias",
    "compositions retire": "versions:retire",
    "compositions visibility": "versions:set_visibility",
    "compositions evaluate": "evaluating:evaluate",
    "compositions evaluations": "evaluating:list_evaluations",
    "db upgrade": "upkeep:upgrade",
    "db dump": "upkeep:dump",
    "db restore": "upkeep:restore",
    "db embed": "searching:embed",
    "jobs list": "jobs:list_jobs",
    "jobs show": "jobs:show_job",
    "jobs cancel": "jobs:cancel_job",
    "jobs publish": "jobs:publish_candidate",
    "policies add": "policies:add_policy",
    "policies list": "policies:list_policies",
    "policies remove": "policies:remove_policy",
    "keys create": "keys:create",
    "keys limit": "keys:limit",
    "keys list": "keys:list_keys",
    "keys revoke": "keys:revoke",
    "store upload": "filling:upload",
}


class _Unloaded(TyperCommand):
    """A command whose module is not imported yet."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(name)
        self._module, _, self._function = target.partition(":")

    def load(self) -> Any:
        """Import the module and return the command."""
        from server.cli.console import explained

        callback = getattr(import_module(f"server.cli.{self._module}"), self._function)
        if os.environ.get("WEFT_SERVER") and "server" not in signature(callback).parameters:
            note = "note: WEFT_SERVER is set, but this command works on the files of this machine"
            typer.echo(note, err=True)
        single = typer.Typer(add_completion=False)
        single.command(self.name)(explained(callback))
        return typer.main.get_command(single)

    def summarize(self) -> None:
        """Read the help from the source."""
        self.help = _docstrings(self._module)[self._function].partition("\n\n")[0]


class _Group(TyperGroup):
    """Commands that are imported when they are called."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer passes it
        """Return a command; its module is imported."""
        command = self.commands.get(cmd_name)
        return command.load() if isinstance(command, _Unloaded) else command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        for command in self.commands.values():
            if isinstance(command, _Unloaded):
                command.summarize()
        listing = copy.copy(self)
        listing.__class__ = TyperGroup  # type: ignore[assignment]  # its get_command loads nothing
        listing.format_help(ctx, formatter)


class _Root(_Group):
    """`weft`: the commands and groups of the tables above."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        groups = {
            name: _Group(name=name, help=summary, no_args_is_help=True)
            for name, summary in _GROUPS.items()
        }
        for words, target in _COMMANDS.items():
            group, _, name = words.rpartition(" ")
            (groups[group] if group else self).add_command(_Unloaded(name, target))
        for command in groups.values():
            self.add_command(command)


@cache
def _docstrings(module: str) -> dict[str, str]:
    """Return the docstrings of a module's functions, read from its source."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {function.name: ast.get_docstring(function) or "" for function in functions}


app = typer.Typer(cls=_Root, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"weft {metadata.version('weft')}")
        raise typer.Exit


@app.callback()
def weft(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Keep LoRA adapters in a registry, merge them on request and serve them with vLLM.

    `--server URL` runs a command against a server; without it, the command works on the registry
    in WEFT_HOME. Listing commands accept `--json`.
    """
