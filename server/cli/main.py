"""The `weft` command, put together from its groups."""

import typer

from server.cli.checking import check
from server.cli.merging import merge
from server.cli.registry import adapters, bases, compositions, db
from server.cli.serving import demo, serve

app = typer.Typer(
    help="LoRA adapters for one base: kept in a registry, merged on request, served by vLLM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (serve, demo, merge, check):
    app.command()(command)
for name, group in (
    ("adapters", adapters), ("bases", bases), ("compositions", compositions), ("db", db),
):  # fmt: skip
    app.add_typer(group, name=name)
