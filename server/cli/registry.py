"""`weft adapters | bases | compositions`: the registry, by command, here or on a server."""

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from registry.references import check_name, numbered, parse_reference
from server.base_model import read_model_config
from server.cli.client import Home, Key, Server, connect
from server.cli.console import console, explained, print_table
from server.cli.named import add_named_commands

adapters = typer.Typer(help="Adapters in the registry.", no_args_is_help=True)
bases = typer.Typer(help="Bases that adapters belong to.", no_args_is_help=True)
compositions = typer.Typer(help="Named recipes.", no_args_is_help=True)
add_named_commands(adapters, "adapters")
add_named_commands(compositions, "compositions")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@adapters.command("list")
@explained
def list_adapters(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List adapters."""
    with connect(home, server, key) as api:
        found = list(api.pages("adapters"))
    if as_json:
        rows = [
            {"name": a["name"], "version": a["number"],
             **{field: a[field] for field in ("digest", "base", "rank", "aliases")}}
            for a in found
        ]  # fmt: skip
        typer.echo(json.dumps(rows, indent=2))
        return
    print_table(
        "Adapters",
        ("name", "newest", "aliases", "base", "rank", "MB", "norm", "digest"),
        [
            (a["name"], a["number"], _aliases(a["aliases"]), a["base"], a["rank"],
             f"{a['bytes'] / 1e6:.1f}", f"{a['norm']:.3g}", a["digest"][:12])
            for a in found
        ],
    )  # fmt: skip


@adapters.command("show")
@explained
def show_adapter(
    name: Annotated[str, typer.Argument(help="The adapter's name.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Show an adapter's versions, and where its aliases point and pointed."""
    check_name(name)
    with connect(home, server, key) as api:
        versions = list(api.pages("adapters", name, "-", "versions"))
        moves = list(api.pages("adapters", name, "-", "alias-moves"))
    print_table(
        f"{name}: versions",
        ("version", "created", "rank", "modules", "rsLoRA", "dtype", "norm", "source", "digest"),
        [
            (f"{v['number']}{' (retired)' if v['retired_at'] else ''}", _moment(v["created_at"]),
             v["rank"], v["module_count"], v["use_rslora"], ",".join(v["dtypes"]),
             f"{v['norm']:.3g}", v["source"] or "", v["digest"])
            for v in reversed(versions)
        ],
    )  # fmt: skip
    print_table(
        f"{name}: alias moves",
        ("alias", "from", "to", "when", "by"),
        [
            (m["alias"], m["from_number"] or "", m["to_number"], _moment(m["moved_at"]),
             m["moved_by"])
            for m in reversed(moves)
        ],
    )  # fmt: skip


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
    _say(f"{base['name']}: {base['module_count']} modules")


@bases.command("list")
@explained
def list_bases(home: Home = None, server: Server = None, key: Key = None) -> None:
    """List bases."""
    with connect(home, server, key) as api:
        rows = [
            (b["name"], b["architecture"] or "", b["module_count"], " ".join(b["keys"]))
            for b in api.pages("bases")
        ]
    print_table("Bases", ("name", "architecture", "modules", "also known as"), rows)


@compositions.command("publish")
@explained
def publish(
    name: Annotated[str, typer.Argument(help="Name of the composition.")],
    expression: Annotated[str, typer.Argument(help="For example 'lego(a, b@prod; rank=16)'.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Give an expression a name; what its references mean now is written down."""
    check_name(name)
    with connect(home, server, key, with_base=True) as api:
        version = api.ask(
            "POST", "compositions", name, "-", "versions", json={"expression": expression}
        )
    _say(f"{version['name']}@{version['number']}: {expression}")


@compositions.command("promote")
@explained
def promote(
    reference: Annotated[str, typer.Argument(help="name@version of the composition.")],
    adapter: Annotated[str, typer.Argument(help="Name of the adapter, new or existing.")],
    alias: Annotated[str | None, typer.Option(help="Alias to move to the version.")] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Merge a composition and make the result a version of an adapter."""
    name, number = numbered(parse_reference(reference))
    check_name(adapter)
    with connect(home, server, key, with_base=True) as api:
        made = api.ask(
            "POST", "compositions", name, "-", "versions", number, "promote",
            json={"adapter": adapter, "alias": alias},
        )  # fmt: skip
    version = made["version"]
    _say(f"{version['name']}@{version['number']}: {version['digest']}")


@compositions.command("list")
@explained
def list_compositions(home: Home = None, server: Server = None, key: Key = None) -> None:
    """List compositions."""
    with connect(home, server, key) as api:
        rows = [
            (c["name"], c["number"], _aliases(c["aliases"]), c["expression"],
             c["recipe_digest"][:12])
            for c in api.pages("compositions")
        ]  # fmt: skip
    print_table("Compositions", ("name", "newest", "aliases", "expression", "recipe"), rows)


def _aliases(aliases: Mapping[str, int]) -> str:
    return " ".join(f"{alias}→{number}" for alias, number in aliases.items())


def _moment(text: str) -> str:
    return text[:16].replace("T", " ")


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
