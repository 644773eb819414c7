"""`weft adapt`: learn a merge from a file of examples, compare candidates, serve the best."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from server.cli.client import (
    Client,
    Home,
    Key,
    Server,
    ServerRefused,
    connect,
    settings_of,
)
from server.cli.console import AsJson, fail, pairs, print_json, say
from server.cli.jobs import Show, ending_of, print_report, watching

if TYPE_CHECKING:
    from server.gateway import Gateway


def adapt(
    file: Annotated[Path, typer.Argument(help="Examples as chat JSONL, one per line.")],
    method: Annotated[str, typer.Option(help="Method: recycle, lorahub or scale.")] = "recycle",
    pool: Annotated[
        str | None,
        typer.Option(help="A filter such as 'tag=legal rank<=16'; default: every adapter."),
    ] = None,
    member: Annotated[
        list[str] | None,
        typer.Option(help="An adapter of the pool, repeatable; instead of --pool."),
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(help="Number of merged adapters; with commas, each number is tried."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Examples to measure on; default: parts of the file.")
    ] = None,
    serve: Annotated[
        str, typer.Option(help="What to serve: best, none, or a candidate's name.")
    ] = "best",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every random draw.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, repeatable; ADAPTIVE.md lists them.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the result; default: a generated one.")
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Learn a merge from examples, compare it with its controls and serve the best."""
    from server.jobs.datasets import read_dataset

    if pool is not None and member:
        raise fail("--pool is a filter, --member names adapters: give one of them")
    read_dataset(file, validation)  # reports invalid lines before any upload
    body = {
        "options": {**pairs(option or []), "method": method}, "pool": member or pool,
        "k": None if k is None else _numbers(k), "serve": serve, "name": name, "seed": seed,
    }  # fmt: skip
    if server is not None:
        with connect(None, server, key) as api:
            job = _ask(api, body, file, validation)
            _watch_there(api, job)
            _print(api, job, as_json=as_json)
        return
    from server.cli.at_home import client_of, gateway_at_home

    gateway = gateway_at_home(settings_of(home), with_base=True)
    with client_of(gateway) as api:
        job = _ask(api, body, file, validation)
        _watch_here(gateway, job)
        _print(api, job, as_json=as_json)


def _ask(api: Client, body: Mapping[str, Any], file: Path, validation: Path | None) -> str:
    """Upload the examples, create a job and return its id; on refusal, remove the uploads."""
    files = {"training_file": api.upload(file)}
    try:
        if validation is not None:
            files["validation_file"] = api.upload(validation)
        return str(api.ask("POST", "jobs", json={**body, **files})["id"])
    except ServerRefused:
        for file_id in files.values():
            with suppress(ServerRefused):
                api.remove_upload(file_id)
        raise


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise fail(f"--k {text!r}: whole numbers with commas between them, e.g. 5,10") from None


def _watch_there(api: Client, job: str) -> None:
    """Show the events of a server's job. Ctrl-C ends the display, not the job."""
    try:
        with watching() as show:
            for event in api.events("jobs", job, "events"):
                if event["kind"] != "end":
                    show(event)
    except KeyboardInterrupt:
        say(f"{job} continues on the server: `weft jobs show {job}` or `weft jobs cancel {job}`")
        raise typer.Exit(130) from None


def _watch_here(gateway: "Gateway", job: str) -> None:
    """Run the job queue of the registry at home until a job ends, and show its events."""
    from registry.jobs.errors import JobFinished

    try:
        with watching() as show:
            asyncio.run(_run_here(gateway, job, show))
    except KeyboardInterrupt:
        with suppress(JobFinished):
            gateway.registry.jobs.cancel(job)
        say(f"{job}: cancelled")
        raise typer.Exit(130) from None


async def _run_here(gateway: "Gateway", job: str, show: Show) -> None:
    from registry.callers import LOCAL
    from server.admin.job_schemas import JobEventItem

    gateway.jobs.start()
    try:
        async for events in gateway.feed.follow(job, caller=LOCAL):
            for event in events:
                show(JobEventItem.model_validate(event).model_dump())
    finally:
        await gateway.jobs.stop()
        await gateway.builder.stop()


def _print(api: Client, job: str, *, as_json: bool) -> None:
    """Print a job's result; exit code 1 unless it succeeded."""
    ended: Mapping[str, Any] = api.ask("GET", "jobs", job)
    report = api.ask("GET", "jobs", job, "report") if ended["status"] == "succeeded" else None
    if as_json:
        print_json({"job": ended, "report": report})
    elif report is not None:
        print_report(report)
        say(ending_of(ended))
    if ended["status"] != "succeeded":
        raise typer.Exit(1) if as_json else fail(ending_of(ended))
