"""`weft adapters list | show`: what there is, here or on a server."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from registry.references import check_name
from server.cli.client import Home, Key, Server, connect
from server.cli.console import AsJson, explained, minute, print_json, print_table
from server.cli.evaluating import add_evaluation_commands
from server.cli.named import add_named_commands, aliases_text, print_moves

adapters = typer.Typer(help="Adapters in the registry.", no_args_is_help=True)
add_named_commands(adapters, "adapters")
add_evaluation_commands(adapters, "adapters")


@adapters.command("list")
@explained
def list_adapters(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List adapters."""
    with connect(home, server, key) as api:
        found = list(api.pages("adapters"))
    if as_json:
        rows = [
            {"name": a["name"], "version": a["number"],
             **{field: a[field] for field in ("digest", "base", "rank", "aliases")}}
            for a in found
        ]  # fmt: skip
        print_json(rows)
        return
    print_table(
        "Adapters",
        ("name", "newest", "aliases", "base", "rank", "MB", "norm", "digest"),
        [
            (a["name"], a["number"], aliases_text(a["aliases"]), a["base"], a["rank"],
             f"{a['bytes'] / 1e6:.1f}", f"{a['norm']:.3g}", a["digest"][:12])
            for a in found
        ],
    )  # fmt: skip


@adapters.command("show")
@explained
def show_adapter(
    name: Annotated[str, typer.Argument(help="The adapter's name.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show an adapter's versions, and where its aliases point and pointed."""
    check_name(name)
    with connect(home, server, key) as api:
        versions = list(api.pages("adapters", name, "-", "versions"))
        moves = list(api.pages("adapters", name, "-", "alias-moves"))
    if as_json:
        print_json({"versions": versions, "alias_moves": moves})
        return
    columns = (
        "version", "created", "rank", "modules", "rsLoRA", "dtype", "norm", "source", "digest",
    )  # fmt: skip
    print_table(f"{name}: versions", columns, _versions(versions))
    print_moves(name, moves)


def _versions(found: Iterable[Mapping[str, Any]]) -> list[tuple[object, ...]]:
    return [
        (f"{v['number']}{' (retired)' if v['retired_at'] else ''}", minute(v["created_at"]),
         v["rank"], v["module_count"], v["use_rslora"], ",".join(v["dtypes"]),
         f"{v['norm']:.3g}", v["source"] or "", v["digest"])
        for v in reversed(list(found))
    ]  # fmt: skip
