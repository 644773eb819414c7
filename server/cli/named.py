"""What `weft adapters` and `weft compositions` have in common: alias, retire, visibility."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import typer

from registry.errors import UnknownReference
from registry.references import check_alias, check_name, numbered, parse_reference
from registry.types import Visibility
from server.cli.client import Client, Home, Key, Server, connect
from server.cli.console import explained, fail, minute, print_table, say

Kind: TypeAlias = Literal["adapters", "compositions"]
_Name = Annotated[str, typer.Argument(help="The name.")]


def add_named_commands(group: typer.Typer, kind: Kind) -> None:
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
        say(f"{name}@{alias} is now version {version}")

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
        say(f"{reference} is retired")

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
        say(f"{name} is {visibility}")


def version_of(api: Client, kind: Kind, text: str) -> tuple[str, int]:
    """Return name and number of the version that a reference means now.

    Raises:
        ReferenceInvalid: it does not parse.
        UnknownReference, ServerRefused: it means nothing of this kind.
        typer.Exit: it is a digest; the reason is printed.
    """
    reference = parse_reference(text)
    name = reference.name
    if name is None:
        raise fail(f"{text} is a digest: say which version, as name@3")
    if reference.version is not None:
        return name, reference.version
    line = api.ask("GET", kind, name)
    aliases: Mapping[str, int] = line["aliases"]
    if reference.alias is None:
        return name, int(line["number"])
    if reference.alias not in aliases:
        raise UnknownReference(text, [f"{name}@{alias}" for alias in aliases])
    return name, aliases[reference.alias]


def aliases_text(aliases: Mapping[str, int]) -> str:
    """Return where aliases point, in few words."""
    return " ".join(f"{alias}→{number}" for alias, number in aliases.items())


def print_moves(name: str, moves: Iterable[Mapping[str, Any]]) -> None:
    """Print where the aliases of a name have pointed, oldest first."""
    rows = [
        (m["alias"], m["from_number"] or "", m["to_number"], minute(m["moved_at"]), m["moved_by"])
        for m in reversed(list(moves))
    ]
    print_table(f"{name}: alias moves", ("alias", "from", "to", "when", "by"), rows)
