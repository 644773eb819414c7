"""`weft keys` and `weft audit`: API keys, and the log of changes."""

from itertools import islice
from typing import Annotated, Any

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
        str | None, typer.Option(help="The namespace whose names the key sees and changes.")
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", help="Let the key see and change every name.")
    ] = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Create a key and print it. It is shown only once.

    Without a namespace and without --all-namespaces it sees what is public.
    """
    body = {
        "name": name, "role": role, "namespace": namespace, "all_namespaces": all_namespaces,
    }  # fmt: skip
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
        (k["name"], k["prefix"], k["role"], _scope(k),
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
            if k["role"] == "admin" and k["all_namespaces"] and k["revoked_at"] is None
        ]
        if admins == [name] and not force:
            raise fail(
                f"{name} is the last admin key: without it, a server is administered only with a "
                "key of WEFT_API_KEYS, or by commands on its own files. It stays closed to "
                "requests without a key. Create another admin key first, or pass --force."
            )
        api.ask("DELETE", "keys", name)
    say(f"the key {name} is revoked")


def limit(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    requests: Annotated[int | None, typer.Option(min=0, help="Chats and completions.")] = None,
    tokens: Annotated[int | None, typer.Option(min=0, help="Tokens, in and out.")] = None,
    compositions: Annotated[int | None, typer.Option(min=0, help="New compositions.")] = None,
    build_seconds: Annotated[float | None, typer.Option(min=0, help="Seconds of builds.")] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Set what a key may use in a minute; what is left out is left to the server's settings."""
    body = {
        "requests": requests, "tokens": tokens, "compositions": compositions,
        "build_seconds": build_seconds,
    }  # fmt: skip
    with connect(home, server, key) as api:
        api.ask("PUT", "keys", name, "-", "limits", json=body)
    own = ", ".join(f"{kind}: {value:g}" for kind, value in body.items() if value is not None)
    say(f"the key {name} has {own or 'no limits of its own'}")


def _scope(key: dict[str, Any]) -> str:
    return str(key["namespace"] or ("all" if key["all_namespaces"] else "public only"))


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
