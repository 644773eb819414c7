"""`weft artifacts` and `weft adapters lineage`: merged adapters and their recipes."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from registry.paging import MAX_PAGE
from registry.references import is_digest_start
from server.cli.client import Client, Home, Key, Server, connect
from server.cli.console import AsJson, minute, print_json, print_table, short
from server.cli.versions import version_of
from server.compose.written import expression_of, reference_of


def list_artifacts(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List merged adapters and their recipes."""
    with connect(home, server, key) as api:
        artifacts = list(api.pages("artifacts"))
    if as_json:
        print_json(artifacts)
        return
    rows = [
        (short(a["digest"]), f"{a['bytes'] / 1e6:.1f}", minute(a["created_at"]), _yes(a["on_disk"]),
         "; ".join(map(_expression, a["recipes"])),
         " ".join(name for recipe in a["recipes"] for name in recipe["compositions"]))
        for a in artifacts
    ]  # fmt: skip
    print_table("Artifacts", ("digest", "MB", "merged", "on disk", "recipe", "compositions"), rows)


def show_artifact(
    digest: Annotated[str, typer.Argument(help="The digest, or its first 12 or more characters.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a merged adapter: size, recipes and merge report."""
    with connect(home, server, key) as api:
        artifact = api.ask("GET", "artifacts", digest)
    if as_json:
        print_json(artifact)
        return
    measured = artifact["report"].get("overall", {})
    rows = [
        ("MB", f"{artifact['bytes'] / 1e6:.1f}"),
        ("merged", minute(artifact["created_at"])),
        ("seconds of the merge", f"{artifact['seconds']:.2f}"),
        ("on disk", _yes(artifact["on_disk"])),
        ("canary", _canary(artifact["canary"])),
        *((name.replace("_", " "), _figure(value)) for name, value in measured.items()),
    ]
    print_table(artifact["digest"], ("field", "value"), rows)
    _print_recipes("Recipes", artifact["recipes"])


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
    """Show the recipes that made a version or an artifact, and those that use it."""
    with connect(home, server, key) as api:
        lineage = _lineage(api, _digest_of(api, reference))
    if as_json:
        print_json(lineage)
        return
    _print_recipes(f"{reference}: made by", lineage["made_by"])
    _print_recipes(f"{reference}: used by", lineage["used_by"])


def _digest_of(api: Client, reference: str) -> str:
    if is_digest_start(reference):
        return reference
    name, number = version_of(api, "adapters", reference)
    return str(api.ask("GET", "adapters", name, "-", "versions", number)["digest"])


def _lineage(api: Client, digest: str) -> dict[str, Any]:
    """Return the lineage of a digest with every page of the recipes that use it."""
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
        (_expression(r), " ".join(r["compositions"]), r["artifact"] or "not merged")
        for r in recipes
    ]
    print_table(title, ("recipe", "compositions", "artifact"), rows)


def _expression(recipe: Mapping[str, Any]) -> str:
    terms = [
        (item["weight"], reference_of(item["digest"], item["versions"]))
        for item in recipe["ingredients"]
    ]
    return expression_of(recipe["text"], terms)


def _figure(value: object) -> str:
    """Return a number or a list of numbers as text; None is undefined."""
    if isinstance(value, list):
        return " ".join(map(_figure, value))
    return "-" if value is None else f"{value:.4g}"


def _canary(result: Mapping[str, Any] | None) -> str:
    """Return the result of the canary: how many prompts failed, and which."""
    if result is None:
        return "not asked"
    if result["passed"]:
        return f"passed ({result['asked']} prompts)"
    failures = "; ".join(f"{f['number']}: expected {f['expected']}" for f in result["failures"])
    return f"failed {len(result['failures'])} of {result['asked']} prompts ({failures})"


def _yes(there: bool) -> str:
    return "yes" if there else "no"
