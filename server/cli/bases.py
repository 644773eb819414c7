"""`weft bases`: the models that adapters belong to."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from registry.bases import base_key
from registry.errors import BaseConfigInvalid, BaseConflict
from registry.service import Registry
from registry.types import Base
from server.base_model import BaseUnreadable, ensure_base, read_model_config, served_base
from server.cli.client import Client, Home, Key, Server, ServerRefused, connect
from server.cli.console import AsJson, errors, print_json, print_table, say
from server.home import open_registry
from server.settings import Settings

_NOT_FOUND = 404
# Why a base that the settings name may be missing; the registered ones serve as well.
_UNREADABLE = (BaseUnreadable, BaseConfigInvalid, BaseConflict)


def introduce_bases(registry: Registry, settings: Settings) -> None:
    """Register the bases that the settings name; where one cannot be read, print why and go on."""
    for own in settings.of_bases():
        try:
            ensure_base(registry, own)
        except _UNREADABLE as error:
            _explain(own, error)


def known_bases(settings: Settings) -> tuple[Base, ...]:
    """Return the registered bases and those that the settings name; no registry is created."""
    exists = settings.database_url is not None or settings.home.is_dir()
    known = open_registry(settings)[0].bases.list() if exists else ()
    more = []
    for own in settings.of_bases():
        if any(base_key(own.served_base) in base.keys for base in known):
            continue
        try:
            more.append(served_base(own))
        except _UNREADABLE as error:
            _explain(own, error)
    return (*known, *more)


def _explain(settings: Settings, error: Exception) -> None:
    line = f"The base {settings.model} (WEFT_MODEL) is left out: {error}"
    errors.print(line, highlight=False, markup=False, soft_wrap=True)


def add_base(
    name: Annotated[str, typer.Argument(help="Name, usually owner/name as on the Hub.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id with its config.json; default: the name.")
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(help="Another name that adapters give the base; repeat it for several."),
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Register a base with the shapes of its modules, or add spellings to a registered base."""
    if server is None:
        settings = Settings() if home is None else Settings(home=home)
        introduce_bases(open_registry(settings)[0], settings)
    with connect(home, server, key) as api:
        known = model is None and _is_registered(api, name)
        config = None if known else read_model_config(model or name)
        body = {"name": name, "config": config, "aliases": alias or []}
        base = api.ask("POST", "bases", json=body)
    say(f"{base['name']}: {base['module_count']} modules")
    for note in base["notes"]:
        say(f"note: {note}")


def _is_registered(api: Client, name: str) -> bool:
    try:
        api.ask("GET", "bases", name)
    except ServerRefused as error:
        if error.status == _NOT_FOUND:
            return False
        raise
    return True


def list_bases(
    home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """List bases."""
    with connect(home, server, key) as api:
        found = list(api.pages("bases"))
    if as_json:
        print_json(found)
        return
    rows = [
        (b["name"], b["architecture"] or "", b["module_count"], " ".join(b["keys"])) for b in found
    ]
    print_table("Bases", ("name", "architecture", "modules", "also known as"), rows)


def show_base(
    name: Annotated[str, typer.Argument(help="Any spelling of its name.")],
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show a base with the shapes that adapters are held against."""
    with connect(home, server, key) as api:
        base = api.ask("GET", "bases", name)
    if as_json:
        print_json(base)
        return
    say(f"{base['name']}: {base['architecture'] or 'of unknown architecture'}")
    say(f"also known as {' '.join(base['keys'])}")
    print_table("Modules", ("modules", "count", "out", "in"), _layers_together(base["shapes"]))


def _layers_together(shapes: Mapping[str, Sequence[int]]) -> list[tuple[object, ...]]:
    """Return a line for all modules that only differ in the number of their layer."""
    counts = Counter(
        (re.sub(r"\.\d+\.", ".*.", name), d_out, d_in) for name, (d_out, d_in) in shapes.items()
    )
    return [(name, count, d_out, d_in) for (name, d_out, d_in), count in sorted(counts.items())]
