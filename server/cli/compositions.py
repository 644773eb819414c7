"""`weft compositions`: expressions under a name, and adapters made from them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.references import check_name
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, fail, minute, print_json, print_table, say, short
from server.cli.versions import aliases_text, print_moves, state_of, version_of


def add_composition(
    name: Annotated[str, typer.Argument(help="Name of the composition.")],
    expression: Annotated[
        str | None, typer.Argument(help="For example 'lego(a, b@prod; rank=16)'.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A JSON file with a composition object, in place of an expression."),
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Save an expression under a name, with the versions that its references mean now."""
    check_name(name)
    body = _described(expression, file)
    with connect(home, server, key, with_base=True) as api:
        version = api.ask("POST", "compositions", name, "-", "versions", json=body)
    say(f"{version['name']}@{version['number']}: {version['expression']}")


def _described(expression: str | None, file: Path | None) -> dict[str, Any]:
    if (expression is None) == (file is None):
        raise fail("give an expression, or --file with a composition object, and not both")
    if file is None:
        return {"expression": expression}
    try:
        return {"composition": json.loads(file.read_text("utf-8"))}
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON
        raise fail(f"{file}: expected a composition object as JSON: {error}") from error


def publish(
    reference: Annotated[
        str, typer.Argument(help="The composition: name (its newest version), name@3, name@alias.")
    ],
    adapter: Annotated[str, typer.Argument(help="Name of the adapter, new or existing.")],
    alias: Annotated[str | None, typer.Option(help="Alias to point at the new version.")] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Merge a composition and register the result as a version of an adapter."""
    check_name(adapter)
    body = {"adapter": adapter, "alias": alias}
    with connect(home, server, key, with_base=True) as api:
        name, number = version_of(api, "compositions", reference)
        path = ("compositions", name, "-", "versions", number, "publish")
        version = api.ask("POST", *path, json=body)["version"]
    say(f"{version['name']}@{version['number']}: {version['digest']}")


def warm(
    reference: Annotated[
        str, typer.Argument(help="The composition: name (its newest version), name@3, name@alias.")
    ],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Merge a composition and load it into a server's engine, before a request needs it."""
    name, _, version = reference.partition("@")
    check_name(name)
    with connect(home, server, key, with_base=True) as api:
        query = {"version": version or None}
        warmed = api.ask("POST", "compositions", name, "warm", query=query)
    taken = ", ".join(f"{stage} {1000 * s:.0f} ms" for stage, s in warmed["seconds"].items())
    say(f"{reference}: {warmed['artifact']} ({taken})")


def list_compositions(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List compositions."""
    with connect(home, server, key) as api:
        compositions = list(api.pages("compositions"))
    if as_json:
        print_json(compositions)
        return
    rows = [
        (c["name"], c["number"], aliases_text(c["aliases"]), c["expression"],
         short(c["recipe_digest"]))
        for c in compositions
    ]  # fmt: skip
    print_table("Compositions", ("name", "newest", "aliases", "expression", "recipe"), rows)


def show_composition(
    name: Annotated[str, typer.Argument(help="Name of the composition.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a composition's versions and the history of its aliases."""
    check_name(name)
    with connect(home, server, key) as api:
        versions = list(api.pages("compositions", name, "-", "versions"))
        moves = list(api.pages("compositions", name, "-", "alias-moves"))
    if as_json:
        print_json({"versions": versions, "alias_moves": moves})
        return
    rows = [
        (v["number"], state_of(v), minute(v["created_at"]), v["created_by"], v["expression"],
         v["recipe_digest"])
        for v in reversed(versions)
    ]  # fmt: skip
    columns = ("version", "state", "created", "by", "expression", "recipe")
    print_table(f"{name}: versions", columns, rows)
    print_moves(name, moves)
