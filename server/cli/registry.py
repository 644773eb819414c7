"""`weft adapters | bases | compositions | db`: the registry, by command."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from registry.bases import architecture_of, module_shapes
from registry.errors import RegistryError
from registry.references import parse_reference
from registry.service import Registry
from registry.sources.folder import Imported, find_adapters, import_folder
from registry.types import Base
from server.base_model import ensure_base, read_model_config
from server.cli.console import actor, console, explained, fail, print_table, progress_bar
from server.compose.expression import Expression, parse_model
from server.compose.resolve import Resolver
from server.serve import open_registry
from server.settings import Settings

adapters = typer.Typer(help="Adapters in the registry.", no_args_is_help=True)
bases = typer.Typer(help="Bases that adapters belong to.", no_args_is_help=True)
compositions = typer.Typer(help="Named recipes.", no_args_is_help=True)
db = typer.Typer(help="The database.", no_args_is_help=True)

Home = Annotated[Path | None, typer.Option(help="Folder of the registry (WEFT_HOME).")]
BaseName = Annotated[str | None, typer.Option(help="The base; default: what the config says.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@adapters.command("import")
@explained
def import_adapters(
    folder: Annotated[Path, typer.Argument(help="An adapter folder, or a folder of them.")],
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the adapter, or namespace of several; default: the folders' names."
        ),
    ] = None,
    base: BaseName = None,
    alias: Annotated[str | None, typer.Option(help="Alias to move to each version.")] = None,
    home: Home = None,
) -> None:
    """Admit adapters from a folder into the registry; refused ones do not stop the others."""
    registry = _registry(home)
    total = len(find_adapters(folder))
    who = actor()
    outcomes: list[Imported] = []
    with progress_bar("importing") as show:
        for item in import_folder(registry, folder, name=name, base=base, alias=alias, actor=who):
            outcomes.append(item)
            show(len(outcomes), total)
    print_table(
        "Import", ("folder", "result", "version", "digest or reason"), map(_import_row, outcomes)
    )
    if any(isinstance(item.outcome, RegistryError) for item in outcomes):
        raise typer.Exit(1)


def _import_row(item: Imported) -> tuple[str, str, str, str]:
    if isinstance(item.outcome, RegistryError):
        return item.folder.name, "refused", "", str(item.outcome)
    version = item.outcome.version
    state = "new" if item.outcome.created else "known"
    return item.folder.name, state, f"{version.name}@{version.number}", version.digest[:12]


@adapters.command("list")
@explained
def list_adapters(home: Home = None, as_json: AsJson = False) -> None:
    """List adapters."""
    found = _registry(home).adapters()
    if as_json:
        rows = [
            {"name": a.name, "version": a.number, "digest": a.digest, "base": a.base,
             "rank": a.rank, "aliases": dict(a.aliases)}
            for a in found
        ]  # fmt: skip
        typer.echo(json.dumps(rows, indent=2))
        return
    print_table(
        "Adapters",
        ("name", "newest", "aliases", "base", "rank", "MB", "norm", "digest"),
        [
            (a.name, a.number, _aliases(a.aliases), a.base, a.rank, f"{a.bytes / 1e6:.1f}",
             f"{a.norm:.3g}", a.digest[:12])
            for a in found
        ],
    )  # fmt: skip


@adapters.command("show")
@explained
def show_adapter(
    name: Annotated[str, typer.Argument(help="The adapter's name.")], home: Home = None
) -> None:
    """Show an adapter's versions, and where its aliases point and pointed."""
    adapter = _registry(home).adapter(name)
    print_table(
        f"{name}: versions",
        ("version", "created", "rank", "modules", "rsLoRA", "dtype", "norm", "source", "digest"),
        [
            (f"{v.number}{' (retired)' if v.retired_at else ''}", f"{v.created_at:%Y-%m-%d %H:%M}",
             v.rank, len(v.modules), v.use_rslora, ",".join(v.dtypes), f"{v.norm:.3g}",
             v.source or "", v.digest)
            for v in adapter.versions
        ],
    )  # fmt: skip
    print_table(
        f"{name}: alias moves",
        ("alias", "from", "to", "when", "by"),
        [
            (m.alias, m.from_number or "", m.to_number, f"{m.moved_at:%Y-%m-%d %H:%M}", m.moved_by)
            for m in adapter.alias_moves
        ],
    )


@adapters.command("alias")
@explained
def set_alias(
    name: Annotated[str, typer.Argument(help="The adapter's or composition's name.")],
    alias: Annotated[str, typer.Argument(help="The alias, for example prod.")],
    version: Annotated[int, typer.Argument(min=1, help="The version it shall point at.")],
    home: Home = None,
) -> None:
    """Point an alias at a version; requests follow at once."""
    _registry(home).set_alias(name, alias, version, actor())
    console.print(f"{name}@{alias} is now version {version}", highlight=False, markup=False)


@adapters.command("retire")
@explained
def retire(
    reference: Annotated[str, typer.Argument(help="name@version")], home: Home = None
) -> None:
    """Take a version out of use, for good."""
    _registry(home).retire(parse_reference(reference), actor())
    console.print(f"{reference} is retired", highlight=False, markup=False)


@bases.command("add")
@explained
def add_base(
    name: Annotated[str, typer.Argument(help="Name, usually owner/name as on the Hub.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id with its config.json; default: the name.")
    ] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Other spellings, repeatable.")] = None,
    home: Home = None,
) -> None:
    """Make a base known, with the shapes of its modules."""
    config = read_model_config(model or name)
    base = _registry(home).add_base(
        name, shapes=module_shapes(config), aliases=alias or (),
        architecture=architecture_of(config), actor=actor(),
    )  # fmt: skip
    console.print(f"{base.name}: {len(base.shapes)} modules", highlight=False, markup=False)


@bases.command("list")
@explained
def list_bases(home: Home = None) -> None:
    """List bases."""
    found = _registry(home).bases()
    rows = [(b.name, b.architecture or "", len(b.shapes), " ".join(sorted(b.keys))) for b in found]
    print_table("Bases", ("name", "architecture", "modules", "also known as"), rows)


@compositions.command("publish")
@explained
def publish(
    name: Annotated[str, typer.Argument(help="Name of the composition.")],
    expression: Annotated[str, typer.Argument(help="For example 'lego(a, b@prod; rank=16)'.")],
    home: Home = None,
) -> None:
    """Give an expression a name; what its references mean now is written down."""
    settings = _settings(home)
    registry, _ = open_registry(settings)
    parsed = parse_model(expression)
    if not isinstance(parsed, Expression):
        raise fail(f"{expression!r} is a single reference: give it an alias instead")
    recipe = _resolver(registry, settings, ensure_base(registry, settings)).plan(parsed)
    version = registry.publish(
        name, expression=expression, recipe_text=recipe.canonical(), recipe_digest=recipe.digest(),
        base=recipe.base, ingredients=recipe.lineage, actor=actor(),
    )  # fmt: skip
    console.print(f"{version.name}@{version.number}: {expression}", highlight=False, markup=False)


@compositions.command("list")
@explained
def list_compositions(home: Home = None) -> None:
    """List compositions."""
    rows = [
        (c.name, c.number, _aliases(c.aliases), c.expression, c.recipe_digest[:12])
        for c in _registry(home).compositions()
    ]
    print_table("Compositions", ("name", "newest", "aliases", "expression", "recipe"), rows)


@db.command("upgrade")
@explained
def upgrade(home: Home = None) -> None:
    """Create the database or bring it to this release's schema."""
    settings = _settings(home)
    open_registry(settings)
    console.print("the database is up to date", highlight=False, markup=False)


def _settings(home: Path | None) -> Settings:
    return Settings() if home is None else Settings(home=home)


def _registry(home: Path | None) -> Registry:
    registry, _ = open_registry(_settings(home))
    return registry


def _resolver(registry: Registry, settings: Settings, base: Base) -> Resolver:
    return Resolver(
        registry, base.name, settings.base_name, settings.merge_dtype, settings.max_lora_rank
    )


def _aliases(aliases: Mapping[str, int]) -> str:
    return " ".join(f"{alias}→{number}" for alias, number in aliases.items())
