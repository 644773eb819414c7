"""`weft db upgrade | dump | restore` and `weft gc`: the database, and unreferenced files."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from registry.access.audit import Audit
from registry.storage.database import Database
from registry.upkeep.garbage import DAY_SECONDS, Collected, Collector, Garbage, Reason
from server.artifacts.collect import GRACE_DAYS, collector_of, prune_rows
from server.cli.client import Home, Key, Server, connect, settings_of
from server.cli.console import (
    AsJson,
    actor,
    fail,
    print_json,
    print_table,
    progress_bar,
    say,
    short,
)
from server.jobs.retention import remove_job_folders
from server.settings import Settings

_WHY: Mapping[Reason, str] = {
    "orphan": "no registered version has these files",
    "retired": "retired, and no composition in use needs it",
    "unused": "no composition in use needs it, and no request has used it",
    "budget": "the artifacts exceed their budget",
}


def upgrade(home: Home = None) -> None:
    """Create the database, or migrate it to this release's schema."""
    Database(settings_of(home).database).upgrade()
    say("the database is up to date")


def dump(
    file: Annotated[Path, typer.Argument(help="File to write, e.g. weft.jsonl.gz; must be new.")],
    home: Home = None,
) -> None:
    """Write all rows into one portable file. Copy the `blobs` folder along with it."""
    from registry.upkeep.dump import dump as write_dump

    with progress_bar("dumping") as show:
        dumped = write_dump(Database(settings_of(home).database), file, progress=show)
    say(f"{file}: {dumped.total} rows of schema {dumped.revision}; copy the blobs folder along")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `weft db dump` wrote.")],
    home: Home = None,
) -> None:
    """Restore a dump into an empty database, SQLite or PostgreSQL, and migrate it."""
    from registry.upkeep.restore import restore as read_dump

    settings = settings_of(home)
    with progress_bar("restoring") as show:
        dumped = read_dump(Database(settings.database), file, progress=show)
    say(f"{dumped.total} rows restored; copy the adapters' files to {settings.blobs}")


def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove the files; without it, they are only listed.")
    ] = False,
    grace_days: Annotated[
        float, typer.Option(min=0, help="Keep what was retired or used within this many days.")
    ] = GRACE_DAYS,
    budget_bytes: Annotated[
        int | None,
        typer.Option(min=0, help="Bytes of artifacts to keep; default: WEFT_ARTIFACT_BUDGET_BYTES"),
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """List unreferenced files older than an hour, or remove them with --delete."""
    if server is not None:
        if budget_bytes is not None:
            raise fail("--budget-bytes is the server's own setting, WEFT_ARTIFACT_BUDGET_BYTES")
        done = _at_server(server, key, grace_days, delete=delete)
    else:
        settings = settings_of(home)
        database = Database(settings.database)
        database.check()
        collector = collector_of(
            database, settings, grace_days=grace_days, budget_bytes=budget_bytes
        )
        done = _here(collector, Audit(database), delete=delete)
        if delete:
            _prune(database, settings)
    if as_json:
        rows = [{**asdict(item.garbage), "removed": item.removed} for item in done]
        print_json(rows)
        return
    _print_garbage(done, delete=delete)


def _at_server(server: str, key: str | None, grace_days: float, *, delete: bool) -> list[Collected]:
    query = {"grace_days": str(grace_days)}
    with connect(None, server, key) as api:
        if not delete:
            items = api.pages("garbage", query=query)
            return [Collected(Garbage(**item), removed=False) for item in items]
        report = api.ask("POST", "garbage", "collect", query=query)
    removed = [item.pop("removed") for item in report["items"]]
    return [Collected(Garbage(**i), gone) for i, gone in zip(report["items"], removed, strict=True)]


def _here(collector: Collector, audit: Audit, *, delete: bool) -> list[Collected]:
    planned = collector.plan()
    if not delete:
        return [Collected(garbage, removed=False) for garbage in planned]
    done: list[Collected] = []
    try:
        with progress_bar("removing") as show:
            for start in range(0, len(planned), 100):
                done += collector.collect(planned[start : start + 100])
                show(len(done), len(planned))
    finally:  # an interrupted run is logged too
        removed = [item.garbage.bytes for item in done if item.removed]
        if removed:
            detail = {"removed": len(removed), "bytes": sum(removed)}
            audit.note(actor(), "garbage.collected", "garbage", **detail)
    collector.sweep()
    return done


def _prune(database: Database, settings: Settings) -> None:
    """Remove what is past its retention, and log it."""
    pruned, jobs = prune_rows(database, settings), remove_job_folders(database, settings)
    if pruned.total or jobs:
        detail = {**asdict(pruned), "job_folders": jobs}
        Audit(database).note(actor(), "garbage.collected", "rows", **detail)


def _print_garbage(done: Iterable[Collected], *, delete: bool) -> None:
    items = list(done)
    rows = [
        (g.store, short(g.digest), f"{g.bytes / 1e6:.1f}", _WHY[g.reason],
         f"{g.idle_seconds / DAY_SECONDS:.1f}",
         ("removed" if item.removed else "in use again, kept") if delete else "listed")
        for item in items
        for g in [item.garbage]
    ]  # fmt: skip
    if rows:
        print_table("Garbage", ("store", "digest", "MB", "why", "idle days", "result"), rows)
    total = sum(item.garbage.bytes for item in items if item.removed or not delete)
    verb = "removed" if delete else "can be removed with --delete"
    say(f"{len(rows)} folders, {total / 1e6:.1f} MB {verb}")
