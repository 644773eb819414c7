"""`weft jobs`: jobs listed, shown, cancelled; another of their candidates published."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape

from server.cli.client import Home, Key, Server, ServerRefused, connect
from server.cli.console import (
    AsJson,
    errors,
    explained,
    minute,
    print_json,
    print_table,
    progress_bar,
    say,
)
from server.jobs.report import METRICS, interval_text, rows, title_of

jobs = typer.Typer(help="Jobs that learn merges from examples.", no_args_is_help=True)
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


@jobs.command("list")
@explained
def list_jobs(
    status: Annotated[
        str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connect(home, server, key) as api:
        found = list(api.pages("jobs", query={"status": status}))
    if as_json:
        print_json(found)
    else:
        print_jobs(iter(found))


@jobs.command("show")
@explained
def show_job(
    job: JobId, home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """Show how a job stands, and what it has found."""
    with connect(home, server, key) as api:
        found = api.ask("GET", "jobs", job)
        try:
            report = api.ask("GET", "jobs", job, "report")
        except ServerRefused as error:
            if error.status != 409:
                raise
            report = None  # it goes on, or has ended without
    if as_json:
        print_json({"job": found, "report": report})
        return
    if report is not None:
        print_report(report)
    say(ending_of(found))


@jobs.command("cancel")
@explained
def cancel_job(job: JobId, home: Home = None, server: Server = None, key: Key = None) -> None:
    """End a job: at once when it waits, within two seconds when it runs."""
    with connect(home, server, key) as api:
        found = api.ask("POST", "jobs", job, "cancel")
    say(f"{found['id']}: {'cancelled' if found['status'] == 'cancelled' else 'about to end'}")


@jobs.command("publish")
@explained
def publish_candidate(
    job: JobId,
    candidate: Annotated[str, typer.Argument(help="One of the job's candidates.")],
    name: Annotated[
        str | None, typer.Option(help="Name that it is to have; default: the job's.")
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Have another candidate of a job answer."""
    with connect(home, server, key, with_base=True) as api:
        found = api.ask("POST", "jobs", job, "publish", json={"candidate": candidate, "name": name})
    say(ending_of(found))


Show = Callable[[Mapping[str, Any]], None]


@contextmanager
def watching() -> Iterator[Show]:
    """Yield a function that shows events: steps as a bar on a terminal, sentences as lines."""
    with progress_bar("waiting") as bar:

        def show(event: Mapping[str, Any]) -> None:
            data = event["data"]
            if event["kind"] == "metrics":
                loss = data["valid_loss"] if data["valid_loss"] is not None else data["train_loss"]
                said = data["stage"] if loss is None else f"{data['stage']}, loss {loss:.3f}"
                bar(data["step"], data["steps"], said)
            else:
                errors.print(escape(event["message"]), highlight=False, soft_wrap=True)

        yield show


def print_report(report: Mapping[str, Any]) -> None:
    """Print every candidate with its figures, the best first, and what to serve."""
    listed = list(rows(report))
    metrics = [m for m in METRICS if any(row.figures[m] for row in listed)]
    served = any(row.served for row in listed)
    columns = ["candidate", *map(title_of, metrics)]
    columns += [f"{title_of(metric)} as served" for metric in metrics] if served else []
    cells = [
        (row.name,
         *(interval_text(row.figures[metric], metric) for metric in metrics),
         *(interval_text(row.as_served(metric), metric) for metric in metrics if served),
         "published" if row.published else row.reason or "")
        for row in listed
    ]  # fmt: skip
    title = "Candidates on the validation examples, with 95 % intervals"
    print_table(title, (*columns, ""), cells)
    say(str(report["sentence"]))
    if report["served"]:
        say(str(report["served"]))


def print_jobs(jobs: Iterator[Mapping[str, Any]]) -> None:
    """Print jobs, one a line."""
    listed = [
        (job["id"], job["status"], job["options"]["method"], job["name"], job["model"] or "",
         minute(job["created_at"]), job["created_by"])
        for job in jobs
    ]  # fmt: skip
    columns = ("job", "status", "method", "name", "model", "created", "by")
    print_table("Jobs", columns, listed)


def ending_of(job: Mapping[str, Any]) -> str:
    """Return how a job stands, in a sentence."""
    if job["status"] == "failed":
        return f"{job['id']} failed ({job['error']['code']}): {job['error']['message']}"
    if job["model"]:
        return f"{job['id']} {job['status']}: ask for {job['model']}"
    return f"{job['id']}: {job['status']}"
