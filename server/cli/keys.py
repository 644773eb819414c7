"""`weft keys` and `weft audit`: API keys, and the log of changes."""

from itertools import islice
from typing import Annotated

import typer

from registry.callers import Role
from registry.types import Action
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, fail, minute, print_json, print_table, say


def create(
    name: Annotated[str, typer.Argument(help="Name of the key, for the audit log.")],
    role: Annotated[
        Role, typer.Option(help="The key's rights; each role includes those before it.")
    ] = "chat",
    namespace: Annotated[
        str | None, typer.Option(help="Limit the key to this namespace; default: no limit.")
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Create a key and print it. It is shown only once."""
    body = {"name": name, "role": role, "namespace": namespace}
    with connect(home, server, key) as api:
        created = api.ask("POST", "keys", json=body)
    typer.echo(created["key"])


def list_keys(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List keys, including revoked ones."""
    with connect(home, server, key) as api:
        listed = list(api.pages("keys"))
    if as_json:
        print_json(listed)
        return
    rows = [
        (k["name"], k["prefix"], k["role"], k["namespace"] or "all",
         *(minute(k[moment] or "") for moment in ("created_at", "last_used_at", "revoked_at")))
        for k in listed
    ]  # fmt: skip
    columns = ("name", "begins with", "role", "namespace", "created", "last used", "revoked")
    print_table("Keys", columns, rows)


def revoke(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    force: Annotated[bool, typer.Option("--force", help="Revoke the last admin key.")] = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Revoke a key permanently. Servers follow within two seconds."""
    with connect(home, server, key) as api:
        admins = [
            k["name"]
            for k in api.pages("keys")
            if k["role"] == "admin" and k["namespace"] is None and k["revoked_at"] is None
        ]
        if admins == [name] and not force:
            raise fail(
                f"{name} is the last admin key: without it, a server is administered only with a "
                "key of WEFT_API_KEYS, or by commands on its own files. It stays closed to "
                "requests without a key. Create another admin key first, or pass --force."
            )
        api.ask("DELETE", "keys", name)
    say(f"the key {name} is revoked")


def audit(
    actor: Annotated[str | None, typer.Option(help="Only changes by this user or key.")] = None,
    action: Annotated[Action | None, typer.Option(help="Only this kind of change.")] = None,
    subject: Annotated[
        str | None, typer.Option(help="Only this reference, or all versions of this name.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of rows.")] = 50,
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List changes, newest first."""
    query = {"actor": actor, "action": action, "subject": subject}
    with connect(home, server, key) as api:
        changes = list(islice(api.pages("audit", query=query), limit))
    if as_json:
        print_json(changes)
        return
    rows = [
        (minute(c["at"]), c["actor"], c["action"], c["subject"],
         ", ".join(f"{name}: {value}" for name, value in c["detail"].items()))
        for c in changes
    ]  # fmt: skip
    print_table("Changes", ("when", "who", "what", "subject", "more"), rows)
