"""`weft adapters list | show`: adapters, their versions, and one version in full."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from registry.references import parse_reference
from server.cli.client import Client, Home, Key, Server, connect
from server.cli.console import AsJson, errors, minute, print_json, print_table, say, short
from server.cli.versions import aliases_text, print_moves, state_of, version_of


def list_adapters(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List adapters."""
    with connect(home, server, key) as api:
        adapters = list(api.pages("adapters"))
    if as_json:
        fields = ("digest", "base", "rank", "aliases")
        print_json([
            {"name": a["name"], "version": a["number"], **{field: a[field] for field in fields}}
            for a in adapters
        ])  # fmt: skip
        return
    rows = [
        (a["name"], a["number"], aliases_text(a["aliases"]), a["base"], a["rank"],
         f"{a['bytes'] / 1e6:.1f}", f"{a['norm']:.3g}", short(a["digest"]))
        for a in adapters
    ]  # fmt: skip
    columns = ("name", "newest", "aliases", "base", "rank", "MB", "norm", "digest")
    if not rows:
        errors.print(
            "No adapter is registered: `weft adapters import FOLDER` registers some.", markup=False
        )
    print_table("Adapters", columns, rows)


def show_adapter(
    reference: Annotated[
        str, typer.Argument(help="name (all its versions), or one version: name@3, name@alias.")
    ],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show an adapter's versions and aliases, or everything about one version."""
    parsed = parse_reference(reference)
    with connect(home, server, key) as api:
        if parsed.name is None or parsed.version is not None or parsed.alias is not None:
            _show_version(api, reference, as_json=as_json)
        else:
            _show_name(api, parsed.name, as_json=as_json)


def _show_name(api: Client, name: str, *, as_json: bool) -> None:
    versions = list(api.pages("adapters", name, "-", "versions"))
    moves = list(api.pages("adapters", name, "-", "alias-moves"))
    if as_json:
        print_json({"versions": versions, "alias_moves": moves})
        return
    tags = api.ask("GET", "adapters", name, "-", "tags")["tags"]
    rows = [
        (v["number"], state_of(v), minute(v["created_at"]), v["base"], v["rank"],
         v["module_count"], ",".join(v["dtypes"]), f"{v['norm']:.3g}", v["source"] or "",
         v["digest"])
        for v in reversed(versions)
    ]  # fmt: skip
    columns = (
        "version", "state", "created", "base", "rank", "modules", "dtype", "norm", "source",
        "digest",
    )  # fmt: skip
    print_table(f"{name}: versions", columns, rows)
    say(f"tags: {' '.join(tags) or 'none'}")
    print_moves(name, moves)
    say(f"`weft adapters show {name}@{versions[0]['number']}` shows modules, findings and card")


def _show_version(api: Client, reference: str, *, as_json: bool) -> None:
    name, number = version_of(api, "adapters", reference)
    version = api.ask("GET", "adapters", name, "-", "versions", number)
    tags = api.ask("GET", "adapters", name, "-", "tags")["tags"]
    if as_json:
        print_json(version | {"tags": tags})
        return
    reason = f": {version['status_reason']}" if version["status_reason"] else ""
    facts = [
        ("state", state_of(version) + reason),
        ("digest", version["digest"]),
        ("base", version["base"]),
        ("base in its config", version["base_said"] or "not named"),
        ("tags", " ".join(tags)),
        ("licence", version["licence"] or "not named"),
        ("source", version["source"] or ""),
        ("created", f"{minute(version['created_at'])} by {version['created_by']}"),
        ("rank", version["rank"]),
        ("scaling", "alpha / √rank" if version["use_rslora"] else "alpha / rank"),
        ("dtype", ", ".join(version["dtypes"])),
        ("MB", f"{version['bytes'] / 1e6:.1f}"),
        ("norm of the update", f"{version['norm']:.4g}"),
    ]
    print_table(f"{name}@{number}", ("field", "value"), facts)
    _print_modules(version["modules"])
    findings = [
        (f["severity"], f["code"], f["tensor"] or f["file"], f["expected"], f["found"])
        for f in version["report"].get("findings", [])
    ]
    if findings:
        columns = ("severity", "code", "where", "expected", "found")
        print_table("Findings of admission", columns, findings)
    if version["card"]:
        say(f"card:\n{version['card']}")


def _print_modules(modules: Mapping[str, Mapping[str, Any]]) -> None:
    rows = [
        (name, m["kind"], m["rank"], f"{m['alpha']:g}", m["d_out"], m["d_in"])
        for name, m in modules.items()
    ]
    print_table("Modules", ("module", "kind", "rank", "alpha", "out", "in"), rows)
