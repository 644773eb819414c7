"""`weft adapters import DIR --server URL`: folders from here, sent to a running server."""

from pathlib import Path
from typing import Any

import typer

from registry.sources.folder import find_adapters, name_of
from server.cli.client import Client, ServerRefused, tar_of
from server.cli.console import cut_short, print_json, print_table


def upload_adapters(
    api: Client, path: Path, *, name: str | None, base: str | None, alias: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Send what `find_adapters` finds, one after the other; a refused one stops no other.

    A server that fails, or does not answer, stops all.

    Raises:
        NothingToImport: there is none.
        ServerRefused: the only one was refused, or nobody answers.
        typer.Exit: with 1, when some were refused, or not sent any more.
    """
    folders = find_adapters(path)
    outcomes: list[dict[str, Any]] = []
    failure: ServerRefused | None = None
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
            if error.status is None or error.status >= 500:
                failure = error
                break
            made = str(error)
        outcomes.append(_outcome(folder, chosen, made))
    _print(outcomes, as_json=as_json)
    if failure is not None:
        raise cut_short(failure, len(outcomes), len(folders)) from failure
    if any(outcome["version"] is None for outcome in outcomes):
        raise typer.Exit(1)


def _print(outcomes: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(outcomes)
    else:
        rows = [
            (o["source"], o["result"], o["version"] or "", o["digest"] or "; ".join(o["reasons"]))
            for o in outcomes
        ]
        print_table("Import", ("source", "result", "version", "digest or reason"), rows)


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
