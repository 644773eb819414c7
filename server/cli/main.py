"""The `weft` command, put together from its groups."""

import typer

from server.cli.adapters import adapters
from server.cli.adapting import adapt
from server.cli.artifacts import artifacts, show_lineage
from server.cli.bases import bases
from server.cli.checking import check
from server.cli.compositions import compositions
from server.cli.importing import import_adapters
from server.cli.jobs import jobs
from server.cli.keys import audit, keys
from server.cli.merging import merge
from server.cli.probing import convert, probe_adapters, quarantine, release
from server.cli.searching import embed, search, set_examples, tag
from server.cli.serving import demo, serve
from server.cli.upkeep import db, gc

app = typer.Typer(
    help="LoRA adapters for one base: kept in a registry, merged on request, served by vLLM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (serve, demo, adapt, merge, check, convert, gc, search, audit):
    app.command()(command)
adapters.command("import")(import_adapters)
adapters.command("probe")(probe_adapters)
adapters.command("quarantine")(quarantine)
adapters.command("release")(release)
adapters.command("tag")(tag)
adapters.command("examples")(set_examples)
adapters.command("lineage")(show_lineage)
db.command("embed")(embed)
for name, group in (
    ("adapters", adapters), ("artifacts", artifacts), ("bases", bases),
    ("compositions", compositions), ("db", db), ("jobs", jobs), ("keys", keys),
):  # fmt: skip
    app.add_typer(group, name=name)
