"""`weft artifacts` and `weft adapters lineage`: what was merged, of what, and into what."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from registry.references import check_digest, parse_reference
from server.admin.fields import MAX_PAGE
from server.cli.client import Client, Home, Key, Server, connect
from server.cli.console import AsJson, explained, minute, print_json, print_table
from server.cli.named import version_of

artifacts = typer.Typer(help="Merged adapters, by digest.", no_args_is_help=True)


@artifacts.command("list")
@explained
def list_artifacts(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List what was ever merged, and of what."""
    with connect(home, server, key) as api:
        found = list(api.pages("artifacts"))
    if as_json:
        print_json(found)
        return
    rows = [
        (a["digest"], f"{a['bytes'] / 1e6:.1f}", minute(a["created_at"]), _yes(a["on_disk"]),
         "; ".join(map(expression_of, a["recipes"])),
         " ".join(name for recipe in a["recipes"] for name in recipe["compositions"]))
        for a in found
    ]  # fmt: skip
    print_table("Artifacts", ("digest", "MB", "made", "on disk", "recipe", "compositions"), rows)


@artifacts.command("show")
@explained
def show_artifact(
    digest: Annotated[str, typer.Argument(help="64 hexadecimal digits.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a merged adapter: its recipes, its size, and what the merge measured."""
    check_digest(digest)
    with connect(home, server, key) as api:
        found = api.ask("GET", "artifacts", digest)
    if as_json:
        print_json(found)
        return
    measured = found["report"].get("overall", {})
    rows = [
        ("MB", f"{found['bytes'] / 1e6:.1f}"),
        ("made", minute(found["created_at"])),
        ("seconds of the merge", f"{found['seconds']:.2f}"),
        ("on disk", _yes(found["on_disk"])),
        *((name.replace("_", " "), _figure(value)) for name, value in measured.items()),
    ]
    print_table(digest, ("what", "value"), rows)
    _print_recipes("Made by", found["recipes"])


@explained
def show_lineage(
    reference: Annotated[
        str,
        typer.Argument(help="name (its newest version), name@3, name@alias, or any digest."),
    ],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show the recipes that a version or an artifact came of, and those that it went into."""
    with connect(home, server, key) as api:
        found = _lineage(api, _digest_of(api, reference))
    if as_json:
        print_json(found)
        return
    _print_recipes(f"{reference}: made by", found["made_by"])
    _print_recipes(f"{reference}: used by", found["used_by"])


def _digest_of(api: Client, reference: str) -> str:
    digest = parse_reference(reference).digest
    if digest is not None:
        return digest
    name, number = version_of(api, "adapters", reference)
    return str(api.ask("GET", "adapters", name, "-", "versions", number)["digest"])


def _lineage(api: Client, digest: str) -> dict[str, Any]:
    """Return both ways from a digest, all pages of the recipes that it went into."""
    used_by: list[Any] = []
    cursor = None
    while True:
        page: dict[str, Any] = api.ask(
            "GET", "lineage", digest, query={"limit": MAX_PAGE, "cursor": cursor}
        )
        used_by += page["used_by"]
        cursor = page.pop("next_cursor")
        if cursor is None:
            return page | {"used_by": used_by}


def _print_recipes(title: str, recipes: Iterable[Mapping[str, Any]]) -> None:
    rows = [
        (expression_of(r), " ".join(r["compositions"]), r["artifact"] or "not merged")
        for r in recipes
    ]
    print_table(title, ("recipe", "compositions", "artifact"), rows)


def expression_of(recipe: Mapping[str, Any]) -> str:
    """Return a recipe much as it would be asked for, every option said."""
    written = json.loads(recipe["text"])
    terms = [
        ("" if item["weight"] == 1.0 else f"{item['weight']:g}*")
        + (item["versions"][0] if item["versions"] else item["digest"][:12])
        for item in recipe["ingredients"]
    ]
    options = [f"{name}={_option(value)}" for name, value in sorted(written["options"].items())]
    return f"{written['method']}({', '.join(terms)}{'; ' if options else ''}{', '.join(options)})"


def _option(value: object) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _figure(value: object) -> str:
    """Return a number, or numbers, for people; None is one that does not exist."""
    if isinstance(value, list):
        return " ".join(map(_figure, value))
    return "-" if value is None else f"{value:.4g}"


def _yes(there: bool) -> str:
    return "yes" if there else "no"
