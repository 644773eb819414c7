"""What `weft adapters` and `weft compositions` have in common: alias, retire, visibility."""

from typing import Annotated, Literal

import typer

from registry.references import check_alias, check_name, numbered, parse_reference
from registry.types import Visibility
from server.cli.client import Home, Key, Server, connect
from server.cli.console import console, explained

_Name = Annotated[str, typer.Argument(help="The name.")]


def add_named_commands(group: typer.Typer, kind: Literal["adapters", "compositions"]) -> None:
    """Add the commands that both kinds have."""

    @group.command("alias")
    @explained
    def set_alias(
        name: _Name,
        alias: Annotated[str, typer.Argument(help="The alias, for example prod.")],
        version: Annotated[int, typer.Argument(min=1, help="The version it shall point at.")],
        home: Home = None,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Point an alias at a version; requests follow at once."""
        check_name(name)
        check_alias(alias)
        with connect(home, server, key) as api:
            api.ask("PUT", kind, name, "-", "aliases", alias, json={"version": version})
        _say(f"{name}@{alias} is now version {version}")

    @group.command("retire")
    @explained
    def retire(
        reference: Annotated[str, typer.Argument(help="name@version")],
        home: Home = None,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Take a version out of use, for good."""
        name, number = numbered(parse_reference(reference))
        with connect(home, server, key) as api:
            api.ask("DELETE", kind, name, "-", "versions", number)
        _say(f"{reference} is retired")

    @group.command("visibility")
    @explained
    def set_visibility(
        name: _Name,
        visibility: Annotated[Visibility, typer.Argument(help="Who may know of it.")],
        home: Home = None,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Show what is in a namespace to everybody (public), or to that namespace only."""
        check_name(name)
        with connect(home, server, key) as api:
            api.ask("PUT", kind, name, "-", "visibility", json={"visibility": visibility})
        _say(f"{name} is {visibility}")


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
