"""`weft keys`: who may call the server."""

from typing import Annotated

import typer

from registry.access import Role
from server.cli.client import Home, Key, Server, connect
from server.cli.console import console, explained, print_table

keys = typer.Typer(help="API keys. With none, everybody may do everything.", no_args_is_help=True)


@keys.command()
@explained
def create(
    name: Annotated[str, typer.Argument(help="Name of the key, for the records.")],
    role: Annotated[
        Role, typer.Option(help="What it may do; each role includes those before it.")
    ] = "chat",
    namespace: Annotated[
        str | None, typer.Option(help="The namespace that its rights end at; default: none.")
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Make a key and print it: this is the only time that it is shown."""
    body = {"name": name, "role": role, "namespace": namespace}
    with connect(home, server, key) as api:
        made = api.ask("POST", "keys", json=body)
    typer.echo(made["key"])


@keys.command("list")
@explained
def list_keys(home: Home = None, server: Server = None, key: Key = None) -> None:
    """List keys, revoked ones too."""
    with connect(home, server, key) as api:
        rows = [
            (k["name"], f"{k['prefix']}…", k["role"], k["namespace"] or "all",
             k["created_at"][:16], (k["last_used_at"] or "")[:16], (k["revoked_at"] or "")[:16])
            for k in api.pages("keys")
        ]  # fmt: skip
    columns = ("name", "key", "role", "namespace", "created", "last used", "revoked")
    print_table("Keys", columns, rows)


@keys.command()
@explained
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Make a key useless, for good; servers follow within two seconds."""
    with connect(home, server, key) as api:
        api.ask("DELETE", "keys", name)
    console.print(f"the key {name} is revoked", highlight=False, markup=False)
