"""`weft adapters|compositions evaluate | evaluations`: what was measured of a version.

Not covered: measuring.
"""

import math
from datetime import UTC, datetime
from typing import Annotated

import typer

from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, explained, fail, minute, print_json, print_table, say
from server.cli.named import Kind, version_of

_Reference = Annotated[str, typer.Argument(help="name (its newest version), name@3, name@alias.")]


def add_evaluation_commands(group: typer.Typer, kind: Kind) -> None:
    """Add the commands to those of adapters or compositions."""

    @group.command("evaluate")
    @explained
    def evaluate(
        reference: _Reference,
        dataset: Annotated[str, typer.Option(help="What it was measured on.")],
        metric: Annotated[str, typer.Option(help="What was measured.")],
        value: Annotated[float, typer.Option(help="The number.")],
        n: Annotated[int | None, typer.Option(min=1, help="Of how many examples.")] = None,
        at: Annotated[
            datetime | None, typer.Option(help="When it was measured, in UTC; default: now.")
        ] = None,
        home: Home = None,
        server: Server = None,
        key: Key = None,
    ) -> None:
        """Attach a number that was measured to a version."""
        if not math.isfinite(value):  # JSON has no other numbers
            raise fail(f"--value {value}: expected a finite number")
        moment = None if at is None else at.replace(tzinfo=UTC).isoformat()
        body = {"dataset": dataset, "metric": metric, "value": value, "n": n, "measured_at": moment}
        with connect(home, server, key) as api:
            name, number = version_of(api, kind, reference)
            made = api.ask("POST", kind, name, "-", "versions", number, "evaluations", json=body)
        say(f"{made['reference']}: {metric} {value:g} on {dataset}")

    @group.command("evaluations")
    @explained
    def list_evaluations(
        reference: _Reference,
        home: Home = None,
        server: Server = None,
        key: Key = None,
        as_json: AsJson = False,
    ) -> None:
        """List what was measured of a version, newest first."""
        with connect(home, server, key) as api:
            name, number = version_of(api, kind, reference)
            found = list(api.pages(kind, name, "-", "versions", number, "evaluations"))
        if as_json:
            print_json(found)
            return
        rows = [
            (e["dataset"], e["metric"], f"{e['value']:g}", "" if e["n"] is None else e["n"],
             minute(e["measured_at"]), e["created_by"])
            for e in found
        ]  # fmt: skip
        columns = ("dataset", "metric", "value", "n", "measured", "by")
        print_table(f"{name}@{number}: evaluations", columns, rows)
