"""`weft adapters|compositions alias | retire | visibility`, and which version a reference means."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

import typer

from registry.errors import UnknownReference
from registry.references import check_alias, check_name, numbered, parse_reference
from registry.types import Visibility
from server.cli.client import Client, Home, Key, Server, connect
from server.cli.console import fail, minute, print_table, say, short

Kind: TypeAlias = Literal["adapters", "compositions"]
_Name = Annotated[str, typer.Argument(help="Name of the adapter or composition.")]


def kind_of(context: typer.Context) -> Kind:
    """Return the group that a command was called in."""
    assert context.parent is not None
    return cast("Kind", context.parent.info_name)


def set_alias(
    context: typer.Context,
    name: _Name,
    alias: Annotated[str, typer.Argument(help="The alias, for example prod.")],
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Point an alias at a version. The next request follows."""
    check_name(name)
    check_alias(alias)
    body = {"version": version}
    with connect(home, server, key) as api:
        api.ask("PUT", kind_of(context), name, "-", "aliases", alias, json=body)
    say(f"{name}@{alias} is now version {version}")


def retire(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="The version, as name@3.")],
    reason: Annotated[
        str | None,
        typer.Option(help="Retire the content of an adapter and all that was made of it, too."),
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Take a version out of use permanently."""
    name, number = numbered(parse_reference(reference))
    if reason is not None:
        if kind_of(context) == "compositions":
            raise fail("--reason is for adapters: retire the adapter that is the reason")
        set_status(reference, {"status": "retired", "reason": reason}, home, server, key)
        return
    with connect(home, server, key) as api:
        api.ask("DELETE", kind_of(context), name, "-", "versions", number)
    say(f"{reference} is retired")


def set_status(
    reference: str, body: dict[str, str], home: Path | None, server: str | None, key: str | None
) -> None:
    """Set the status of a version's content, and print all that the change applies to."""
    name, number = numbered(parse_reference(reference))
    with connect(home, server, key) as api:
        reach = api.ask("PUT", "adapters", name, "-", "versions", number, "status", json=body)
    say(f"{body['status']}: {', '.join(reach['versions'])}")
    for kind in ("merges", "compositions", "artifacts"):
        if reach[kind]:
            say(f"{kind} of it: {', '.join(map(short, reach[kind]))}")


def set_visibility(
    context: typer.Context,
    name: _Name,
    visibility: Annotated[Visibility, typer.Argument(help="Who can see and use it.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Make a name visible to every namespace (public), or to its own only (private)."""
    check_name(name)
    body = {"visibility": visibility}
    with connect(home, server, key) as api:
        api.ask("PUT", kind_of(context), name, "-", "visibility", json=body)
    say(f"{name} is {visibility}")


def version_of(api: Client, kind: Kind, text: str) -> tuple[str, int]:
    """Return name and number of the version that a reference currently means.

    Raises:
        ReferenceInvalid: the text does not parse.
        UnknownReference, ServerRefused: nothing of this kind has the name or alias.
        typer.Exit: the reference is a digest; the reason is printed.
    """
    reference = parse_reference(text)
    name = reference.name
    if name is None:
        raise fail(f"{text} is a digest: name the version, as name@3")
    if reference.version is not None:
        return name, reference.version
    item = api.ask("GET", kind, name)
    aliases: Mapping[str, int] = item["aliases"]
    if reference.alias is None:
        return name, int(item["number"])
    if reference.alias not in aliases:
        raise UnknownReference(text, [f"{name}@{alias}" for alias in aliases])
    return name, aliases[reference.alias]


def state_of(version: Mapping[str, Any]) -> str:
    """Return whether a version is in use: admitted, quarantined or retired."""
    return "retired" if version["retired_at"] else str(version.get("status", "in use"))


def aliases_text(aliases: Mapping[str, int]) -> str:
    """Return aliases and their versions for a table."""
    return " ".join(f"{alias}→{number}" for alias, number in aliases.items())


def print_moves(name: str, moves: Iterable[Mapping[str, Any]]) -> None:
    """Print the history of a name's aliases, oldest first."""
    rows = [
        (m["alias"], m["from_number"] or "", m["to_number"], minute(m["moved_at"]), m["moved_by"])
        for m in reversed(list(moves))
    ]
    print_table(f"{name}: alias moves", ("alias", "from", "to", "when", "by"), rows)
