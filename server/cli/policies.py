"""`weft policies`: rules on which adapters may be merged with which."""

from typing import Annotated

import typer

from registry.types import PolicyAction
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, minute, print_json, print_table, say


def add_policy(
    action: Annotated[PolicyAction, typer.Argument(help="allow lifts what deny refuses.")],
    selectors: Annotated[
        list[str],
        typer.Argument(
            help="any, tag:TAG, namespace:NAMESPACE or adapter:NAME; two of them for a pair."
        ),
    ],
    reason: Annotated[str, typer.Option(help="Shown to everybody who is refused.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Add a policy, which applies at once, also to what was merged before."""
    body = {"action": action, "selectors": selectors, "reason": reason}
    with connect(home, server, key) as api:
        policy = api.ask("POST", "policies", json=body)
    say(f"policy {policy['id']}: {action} {' with '.join(policy['selectors'])}")


def list_policies(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List policies."""
    with connect(home, server, key) as api:
        policies = list(api.pages("policies"))
    if as_json:
        print_json(policies)
        return
    rows = [
        (p["id"], p["action"], " with ".join(p["selectors"]), p["reason"], p["created_by"],
         minute(p["created_at"]))
        for p in policies
    ]  # fmt: skip
    print_table("Policies", ("policy", "action", "merges of", "reason", "by", "added"), rows)


def remove_policy(
    number: Annotated[int, typer.Argument(help="The policy's number.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Remove a policy."""
    with connect(home, server, key) as api:
        api.ask("DELETE", "policies", number)
    say(f"policy {number} is removed")
