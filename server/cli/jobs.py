"""`weft jobs`: jobs listed, shown, cancelled; another of their candidates published."""

from typing import Annotated

import typer

from server.cli.client import Home, Key, Server, ServerRefused, connect
from server.cli.console import AsJson, explained, print_json, say
from server.cli.job_tables import ending_of, print_jobs, print_report

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
