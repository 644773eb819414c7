"""`weft adapt`: a file of examples in, a served candidate and the table of its rivals out."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from registry.callers import LOCAL
from registry.jobs.errors import JobFinished
from server.admin.job_schemas import JobEventItem
from server.cli.client import (
    Client,
    Home,
    Key,
    Server,
    ServerRefused,
    client_of,
    connect,
    gateway_at_home,
)
from server.cli.console import AsJson, explained, fail, pairs, print_json, say
from server.cli.jobs import Show, ending_of, print_report, watching
from server.gateway import Gateway
from server.jobs.datasets import read_dataset
from server.jobs.log import follow


@explained
def adapt(
    file: Annotated[Path, typer.Argument(help="Examples as chat JSONL: a line each.")],
    method: Annotated[
        str, typer.Option(help="What is learned: recycle, lorahub or scale.")
    ] = "recycle",
    pool: Annotated[
        str | None,
        typer.Option(help="A filter such as 'tag=legal rank<=16'; default: every adapter."),
    ] = None,
    member: Annotated[
        list[str] | None, typer.Option(help="An adapter of the pool, repeatable; no --pool then.")
    ] = None,
    k: Annotated[
        str | None, typer.Option(help="How many are merged; several with commas are all tried.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Examples to measure on; default: a fifth of the file.")
    ] = None,
    serve: Annotated[str, typer.Option(help="best, none, or a candidate's name.")] = "best",
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is random.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, repeatable; ADAPTIVE.md lists them.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the result; default: one is made up.")
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Learn a merge from examples, measure it beside its controls, and serve what is best."""
    if pool is not None and member:
        raise fail("--pool is a filter, --member names adapters: give one of them")
    read_dataset(file, validation, seed=seed or 0)  # every bad line is told before anything is sent
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
    gateway = gateway_at_home(home, with_base=True)
    with client_of(gateway) as api:
        job = _ask(api, body, file, validation)
        _watch_here(gateway, job)
        _print(api, job, as_json=as_json)


def _ask(api: Client, body: Mapping[str, Any], file: Path, validation: Path | None) -> str:
    """Send the examples, ask for a job and return its id; refused, what was sent is removed."""
    files = {"training_file": api.upload(file)}
    try:
        if validation is not None:
            files["validation_file"] = api.upload(validation)
        return str(api.ask("POST", "jobs", json={**body, **files})["id"])
    except ServerRefused:
        for each in files.values():
            with suppress(ServerRefused):
                api.remove_upload(each)
        raise


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise fail(f"--k {text!r}: whole numbers with commas between them, e.g. 5,10") from None


def _watch_there(api: Client, job: str) -> None:
    """Show what happens to a job at a server; it goes on when nobody watches any more."""
    try:
        with watching() as show:
            for event in api.events("jobs", job, "events"):
                if event["kind"] != "end":
                    show(event)
    except KeyboardInterrupt:
        say(f"{job} goes on at the server: see `weft jobs show {job}`, or cancel it")
        raise typer.Exit(130) from None


def _watch_here(gateway: Gateway, job: str) -> None:
    """Run the queue of the registry at home until a job has ended, and show what happens."""
    try:
        with watching() as show:
            asyncio.run(_run_here(gateway, job, show))
    except KeyboardInterrupt:
        with suppress(JobFinished):
            gateway.registry.jobs.cancel(job)
        say(f"{job}: cancelled")
        raise typer.Exit(130) from None


async def _run_here(gateway: Gateway, job: str, show: Show) -> None:
    gateway.jobs.start()
    try:
        async for events in follow(gateway.registry.jobs, job, caller=LOCAL):
            for event in events:
                show(JobEventItem.model_validate(event).model_dump())
    finally:
        await gateway.jobs.stop()
        await gateway.builder.stop()


def _print(api: Client, job: str, *, as_json: bool) -> None:
    """Print what came of a job; exit code 1 unless it succeeded."""
    ended: Mapping[str, Any] = api.ask("GET", "jobs", job)
    report = api.ask("GET", "jobs", job, "report") if ended["status"] == "succeeded" else None
    if as_json:
        print_json({"job": ended, "report": report})
    elif report is not None:
        print_report(report)
        say(ending_of(ended))
    if ended["status"] != "succeeded":
        raise typer.Exit(1) if as_json else fail(ending_of(ended))
