"""`weft compositions`: expressions under a name, and adapters made of them."""

from typing import Annotated

import typer

from registry.references import check_name
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, explained, minute, print_json, print_table, say
from server.cli.evaluating import add_evaluation_commands
from server.cli.named import add_named_commands, aliases_text, print_moves, version_of

compositions = typer.Typer(help="Named recipes.", no_args_is_help=True)
add_named_commands(compositions, "compositions")
add_evaluation_commands(compositions, "compositions")


@compositions.command("add")
@explained
def add_composition(
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
    say(f"{version['name']}@{version['number']}: {expression}")


@compositions.command("publish")
@explained
def publish(
    reference: Annotated[
        str, typer.Argument(help="The composition: name (its newest version), name@3, name@alias.")
    ],
    adapter: Annotated[str, typer.Argument(help="Name of the adapter, new or existing.")],
    alias: Annotated[str | None, typer.Option(help="Alias to move to the version.")] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Merge a composition and make the result a version of an adapter."""
    check_name(adapter)
    with connect(home, server, key, with_base=True) as api:
        name, number = version_of(api, "compositions", reference)
        made = api.ask(
            "POST", "compositions", name, "-", "versions", number, "publish",
            json={"adapter": adapter, "alias": alias},
        )  # fmt: skip
    version = made["version"]
    say(f"{version['name']}@{version['number']}: {version['digest']}")


@compositions.command("list")
@explained
def list_compositions(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List compositions."""
    with connect(home, server, key) as api:
        found = list(api.pages("compositions"))
    if as_json:
        print_json(found)
        return
    rows = [
        (c["name"], c["number"], aliases_text(c["aliases"]), c["expression"],
         c["recipe_digest"][:12])
        for c in found
    ]  # fmt: skip
    print_table("Compositions", ("name", "newest", "aliases", "expression", "recipe"), rows)


@compositions.command("show")
@explained
def show_composition(
    name: Annotated[str, typer.Argument(help="The composition's name.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a composition's versions, and where its aliases point and pointed."""
    check_name(name)
    with connect(home, server, key) as api:
        versions = list(api.pages("compositions", name, "-", "versions"))
        moves = list(api.pages("compositions", name, "-", "alias-moves"))
    if as_json:
        print_json({"versions": versions, "alias_moves": moves})
        return
    rows = [
        (f"{v['number']}{' (retired)' if v['retired_at'] else ''}", minute(v["created_at"]),
         v["created_by"], v["expression"], v["recipe_digest"])
        for v in reversed(versions)
    ]  # fmt: skip
    print_table(f"{name}: versions", ("version", "created", "by", "expression", "recipe"), rows)
    print_moves(name, moves)
