"""`weft audit`: who changed what."""

from itertools import islice
from typing import Annotated

import typer

from registry.access.audit import Action
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, explained, minute, print_json, print_table


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
