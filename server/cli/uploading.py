"""`weft adapters import DIR --server URL`: folders from here, sent to a running server."""

import json
from pathlib import Path
from typing import Any

import typer

from registry.sources.folder import find_adapters, name_of
from server.cli.client import Client, ServerRefused, tar_of
from server.cli.console import print_table


def upload_adapters(
    api: Client, path: Path, *, name: str | None, base: str | None, alias: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Send what `find_adapters` finds, one after the other; a refused one stops no other.

    Raises:
        NothingToImport: there is none.
        ServerRefused: the only one was refused, or nobody answers.
        typer.Exit: with 1, when some were refused.
    """
    folders = find_adapters(path)
    outcomes: list[dict[str, Any]] = []
    for folder in folders:
        chosen = name_of(folder, path, name)
        try:
            made = api.ask(
                "POST", "adapters", chosen, "-", "versions", content=tar_of(folder),
                query={"base": base, "alias": alias},
            )  # fmt: skip
        except ServerRefused as error:
            if len(folders) == 1:
                raise
            made = str(error)
        outcomes.append(_outcome(folder, chosen, made))
    if as_json:
        typer.echo(json.dumps(outcomes, indent=2))
    else:
        rows = [
            (o["source"], o["result"], o["version"] or "", o["digest"] or "; ".join(o["reasons"]))
            for o in outcomes
        ]
        print_table("Import", ("source", "result", "version", "digest or reason"), rows)
    if any(outcome["version"] is None for outcome in outcomes):
        raise typer.Exit(1)


def _outcome(folder: Path, name: str, made: Any) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "source": f"folder:{folder.name}", "name": name, "result": "refused", "version": None,
        "digest": None, "reasons": [], "similar": [],
    }  # fmt: skip
    if isinstance(made, str):
        return outcome | {"reasons": [made]}
    version = made["version"]
    return outcome | {
        "result": "admitted" if made["created"] else "known", "digest": version["digest"],
        "version": f"{version['name']}@{version['number']}", "similar": made["similar"],
    }  # fmt: skip
