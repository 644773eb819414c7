"""`weft bases`: the models that adapters belong to."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from server.base_model import read_model_config
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, explained, print_json, print_table, say

bases = typer.Typer(help="Bases that adapters belong to.", no_args_is_help=True)


@bases.command("add")
@explained
def add_base(
    name: Annotated[str, typer.Argument(help="Name, usually owner/name as on the Hub.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id with its config.json; default: the name.")
    ] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Other spellings, repeatable.")] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Make a base known, with the shapes of its modules."""
    config = read_model_config(model or name)
    body = {"name": name, "config": config, "aliases": alias or []}
    with connect(home, server, key) as api:
        base = api.ask("POST", "bases", json=body)
    say(f"{base['name']}: {base['module_count']} modules")


@bases.command("list")
@explained
def list_bases(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List bases."""
    with connect(home, server, key) as api:
        found = list(api.pages("bases"))
    if as_json:
        print_json(found)
        return
    rows = [
        (b["name"], b["architecture"] or "", b["module_count"], " ".join(b["keys"])) for b in found
    ]
    print_table("Bases", ("name", "architecture", "modules", "also known as"), rows)


@bases.command("show")
@explained
def show_base(
    name: Annotated[str, typer.Argument(help="Any spelling of its name.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a base with the shapes that adapters are held against."""
    with connect(home, server, key) as api:
        base = api.ask("GET", "bases", name)
    if as_json:
        print_json(base)
        return
    say(f"{base['name']}: {base['architecture'] or 'of unknown architecture'}")
    say(f"also known as {' '.join(base['keys'])}")
    print_table("Modules", ("modules", "count", "out", "in"), _layers_together(base["shapes"]))


def _layers_together(shapes: Mapping[str, Sequence[int]]) -> list[tuple[object, ...]]:
    """Return a line for all modules that only differ in the number of their layer."""
    counts = Counter(
        (re.sub(r"\.\d+\.", ".*.", name), d_out, d_in) for name, (d_out, d_in) in shapes.items()
    )
    return [(name, count, d_out, d_in) for (name, d_out, d_in), count in sorted(counts.items())]
