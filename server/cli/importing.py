"""`weft adapters import`: from folders, from the Hugging Face Hub, one or very many."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.errors import RegistryError
from registry.service import Registry
from registry.sources.folder import find_adapters, import_folder, name_of, origin_of
from registry.sources.hub import HubImport
from registry.sources.hub_address import PREFIX, HubAddress, parse_address, read_addresses
from registry.sources.hub_client import HubClient
from registry.sources.outcome import Imported, tally
from registry.storage.errors import DatabaseUnavailable, StorageFailed
from server.cli.bases import introduce_bases
from server.cli.client import Client, Home, Key, Server, ServerRefused, connect, tar_of
from server.cli.console import (
    AsJson,
    actor,
    cut_short,
    fail,
    print_json,
    print_table,
    progress_bar,
    say,
)
from server.home import open_registry
from server.settings import Settings

# Of more adapters than this only the refused ones are listed; --json has them all.
_ROWS_SHOWN = 50
_REFUSED_SHOWN = 200


def import_adapters(
    source: Annotated[
        str | None,
        typer.Argument(help="A folder (of one adapter or of several), or hf:owner/name@rev#sub."),
    ] = None,
    ids: Annotated[Path | None, typer.Option(help="A file with one Hub address a line.")] = None,
    query: Annotated[
        str | None, typer.Option(help="A base's Hub id: all PEFT adapters that name it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many of --query at most.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the adapter, or namespace of several; default: their own."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base; default: what config and card say.")
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Alias to move to each version.")] = None,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Admit adapters into the registry.

    A refused adapter does not stop the others; a full disk does. Running the command again imports
    only what is missing.
    """
    if sum(given is not None for given in (source, ids, query)) != 1:
        raise fail("give one source: a folder, hf:owner/name, --ids FILE or --query BASE")
    if server is not None:
        if source is None or source.startswith(PREFIX):
            raise fail("only folders can be sent to a server; import from the Hub on its machine")
        with connect(None, server, key) as api:
            upload_adapters(api, Path(source), name=name, base=base, alias=alias, as_json=as_json)
        return
    settings = Settings() if home is None else Settings(home=home)
    registry, _ = open_registry(settings)
    introduce_bases(registry, settings)
    if source is not None and not source.startswith(PREFIX):
        total, found = _folder(registry, Path(source), name, base, alias)
    else:
        client = HubClient(settings.hub_endpoint)
        addresses = _addresses(client, source, ids, query, limit)
        several = source is None
        run = HubImport(
            registry, client, settings.import_max_bytes, name=None if several else name,
            namespace=name if several else None, base=base, alias=alias, actor=actor(),
        )  # fmt: skip
        total, found = len(addresses), run.run(addresses, workers=settings.hub_workers)
    outcomes: list[Imported] = []
    try:
        _watch(found, total, outcomes)
    except (StorageFailed, DatabaseUnavailable) as error:
        if total == 1:
            raise
        _print(outcomes, as_json=as_json)
        raise cut_short(error, len(outcomes), total) from error
    if total == 1 and not as_json and isinstance(outcomes[0].outcome, RegistryError):
        raise outcomes[0].outcome  # a sentence says it; tables are for many
    _print(outcomes, as_json=as_json)
    if any(item.refused for item in outcomes):
        raise typer.Exit(1)


def _folder(
    registry: Registry, folder: Path, name: str | None, base: str | None, alias: str | None
) -> tuple[int, Iterator[Imported]]:
    found = import_folder(registry, folder, name=name, base=base, alias=alias, actor=actor())
    return len(find_adapters(folder)), found


def _addresses(
    client: HubClient, source: str | None, ids: Path | None, query: str | None, limit: int | None
) -> list[HubAddress]:
    if source is not None:
        return [parse_address(source)]
    if ids is not None:
        return list(dict.fromkeys(read_addresses(ids.read_text().splitlines())))
    return list(client.find(parse_address(str(query)).repo, limit))


def _watch(found: Iterable[Imported], total: int, outcomes: list[Imported]) -> None:
    """Add to `outcomes` as they come."""
    with progress_bar("importing") as show:
        for item in found:
            outcomes.append(item)
            show(len(outcomes), total)


def _print(outcomes: Sequence[Imported], *, as_json: bool) -> None:
    if as_json:
        print_json([_json(item) for item in outcomes])
        return
    _print_rows([_row(item) for item in outcomes])
    if len(outcomes) > 1:
        print_table("Sum", ("result", "adapters"), tally(outcomes).items())


def _print_rows(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print one row for each adapter; of many adapters only the refused ones."""
    shown = rows if len(rows) <= _ROWS_SHOWN else [row for row in rows if row[1] == "refused"]
    if shown:
        title = "Import" if shown is rows else "Refused"
        columns = ("source", "result", "version", "digest or reason")
        print_table(title, columns, shown[:_REFUSED_SHOWN])
    if len(shown) > _REFUSED_SHOWN:
        say(f"{len(shown) - _REFUSED_SHOWN} more were refused; --json lists all")


def _row(item: Imported) -> tuple[str, str, str, str]:
    if item.version is None:
        return item.source, "refused", "", "; ".join(item.reasons)
    notes = [_likeness(s.reference, s.cosine, s.same_content) for s in item.similar]
    state = "known" if item.verdict == "known" else "new"
    return item.source, state, item.version, ", ".join([str(item.digest)[:12], *notes])


def _likeness(reference: str, cosine: float, same_content: bool) -> str:
    return f"same content as {reference}" if same_content else f"like {reference} ({cosine:.4f})"


def _json(item: Imported) -> dict[str, object]:
    return {
        "source": item.source, "name": item.name, "result": item.verdict, "version": item.version,
        "digest": item.digest, "reasons": item.reasons,
        "similar": [asdict(similar) for similar in item.similar],
    }  # fmt: skip


def upload_adapters(
    api: Client, path: Path, *, name: str | None, base: str | None, alias: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Send what `find_adapters` returns, one after the other; a refusal stops no other.

    A server that fails, or does not answer, stops all.

    Raises:
        NothingToImport: there is no adapter.
        ServerRefused: the only adapter was refused, or the server does not answer.
        typer.Exit: with 1, when some were refused or not sent.
    """
    folders = find_adapters(path)
    outcomes: list[dict[str, Any]] = []
    failure: ServerRefused | None = None
    for folder in folders:
        chosen = name_of(folder, path, name)
        try:
            made = api.ask(
                "POST", "adapters", chosen, "-", "versions", content=tar_of(folder),
                query={"base": base, "alias": alias, "origin": origin_of(folder)},
            )  # fmt: skip
        except ServerRefused as error:
            if len(folders) == 1:
                raise
            if error.status is None or error.status >= 500:
                failure = error
                break
            made = str(error)
        outcomes.append(_outcome(folder, chosen, made))
    _print_uploaded(outcomes, as_json=as_json)
    if failure is not None:
        raise cut_short(failure, len(outcomes), len(folders)) from failure
    if any(outcome["version"] is None for outcome in outcomes):
        raise typer.Exit(1)


def _print_uploaded(outcomes: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(outcomes)
        return
    rows = []
    for o in outcomes:
        notes = [_likeness(**similar) for similar in o["similar"]]
        content = ", ".join([o["digest"], *notes]) if o["digest"] else "; ".join(o["reasons"])
        rows.append((o["source"], o["result"], o["version"] or "", content))
    _print_rows(rows)
    if len(rows) > 1:
        print_table("Sum", ("result", "adapters"), Counter(row[1] for row in rows).items())


def _outcome(folder: Path, name: str, made: Any) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "source": origin_of(folder), "name": name, "result": "refused", "version": None,
        "digest": None, "reasons": [], "similar": [],
    }  # fmt: skip
    if isinstance(made, str):
        return outcome | {"reasons": [made]}
    version = made["version"]
    return outcome | {
        "result": "admitted" if made["created"] else "known", "digest": version["digest"],
        "version": f"{version['name']}@{version['number']}", "similar": made["similar"],
    }  # fmt: skip
