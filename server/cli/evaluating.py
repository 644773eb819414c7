"""`weft adapters|compositions evaluate | evaluations`: evaluation results of a version.

Not covered: running an evaluation.
"""

import math
from datetime import UTC, datetime
from typing import Annotated

import typer

from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, fail, minute, print_json, print_table, say
from server.cli.versions import kind_of, version_of

_Reference = Annotated[str, typer.Argument(help="name (its newest version), name@3, name@alias.")]


def evaluate(
    context: typer.Context,
    reference: _Reference,
    dataset: Annotated[str, typer.Option(help="Name of the dataset.")],
    metric: Annotated[str, typer.Option(help="Name of the metric.")],
    value: Annotated[float, typer.Option(help="The result.")],
    n: Annotated[int | None, typer.Option(min=1, help="Number of examples.")] = None,
    at: Annotated[datetime | None, typer.Option(help="Time, in UTC; default: now.")] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Record an evaluation result of a version."""
    if not math.isfinite(value):  # JSON has no other numbers
        raise fail(f"--value {value}: expected a finite number")
    moment = None if at is None else at.replace(tzinfo=UTC).isoformat()
    body = {"dataset": dataset, "metric": metric, "value": value, "n": n, "measured_at": moment}
    kind = kind_of(context)
    with connect(home, server, key) as api:
        name, number = version_of(api, kind, reference)
        recorded = api.ask("POST", kind, name, "-", "versions", number, "evaluations", json=body)
    say(f"{recorded['reference']}: {metric} {value:g} on {dataset}")


def list_evaluations(
    context: typer.Context,
    reference: _Reference,
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List evaluation results of a version, newest first."""
    kind = kind_of(context)
    with connect(home, server, key) as api:
        name, number = version_of(api, kind, reference)
        evaluations = list(api.pages(kind, name, "-", "versions", number, "evaluations"))
    if as_json:
        print_json(evaluations)
        return
    rows = [
        (e["dataset"], e["metric"], f"{e['value']:g}", "" if e["n"] is None else e["n"],
         minute(e["measured_at"]), e["created_by"])
        for e in evaluations
    ]  # fmt: skip
    columns = ("dataset", "metric", "value", "n", "measured", "by")
    print_table(f"{name}@{number}: evaluations", columns, rows)
