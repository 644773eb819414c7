"""`weft usage`: what each key used."""

from collections import defaultdict
from datetime import datetime
from typing import Annotated, Literal

import typer

from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, print_json, print_table

_COUNTS = ("requests", "prompt_tokens", "completion_tokens", "compositions", "build_seconds")


def usage(
    by: Annotated[
        Literal["day", "key", "namespace"], typer.Option(help="One row for each.")
    ] = "key",
    name: Annotated[str | None, typer.Option("--of", help="Only this key.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Only this namespace.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="From this day (UTC) on.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Up to this day.")
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show requests, tokens, compositions and build seconds, by key, namespace or day."""
    query = {"key": name, "namespace": namespace, "since": _day(since), "until": _day(until)}
    with connect(home, server, key) as api:
        items = list(api.pages("usage", query=query))
    if as_json:
        print_json(items)
        return
    totals: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(_COUNTS))
    for item in items:
        row = totals[item[by] or "(none)"]
        row[:] = [total + item[count] for total, count in zip(row, _COUNTS, strict=True)]
    rows = [(group, *(f"{value:.12g}" for value in row)) for group, row in sorted(totals.items())]
    print_table("Usage", (by, *(count.replace("_", " ") for count in _COUNTS)), rows)


def _day(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d}"
