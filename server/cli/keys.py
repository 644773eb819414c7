"""`weft keys`: who may call the server."""

from itertools import islice
from typing import Annotated

import typer

from registry.access.audit import Action
from registry.callers import Role
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, explained, minute, print_json, print_table, say

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
def list_keys(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List keys, revoked ones too."""
    with connect(home, server, key) as api:
        found = list(api.pages("keys"))
    if as_json:
        print_json(found)
        return
    rows = [
        (k["name"], f"{k['prefix']}…", k["role"], k["namespace"] or "all",
         *(minute(k[moment] or "") for moment in ("created_at", "last_used_at", "revoked_at")))
        for k in found
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
    say(f"the key {name} is revoked")


@explained
def audit(
    actor: Annotated[str | None, typer.Option(help="Only what this one did.")] = None,
    action: Annotated[Action | None, typer.Option(help="Only changes of this kind.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="Only of this reference, or of any version of this name.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List changes, newest first."""
    asked = {"actor": actor, "action": action, "subject": subject}
    with connect(home, server, key) as api:
        found = list(islice(api.pages("audit", query=asked), limit))
    if as_json:
        print_json(found)
        return
    rows = [
        (minute(c["at"]), c["actor"], c["action"], c["subject"],
         ", ".join(f"{name}: {value}" for name, value in c["detail"].items()))
        for c in found
    ]  # fmt: skip
    print_table("Changes", ("when", "who", "what", "subject", "more"), rows)
