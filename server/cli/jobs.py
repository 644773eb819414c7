"""`weft jobs`: list, show and cancel jobs, and publish another candidate of one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape

from server.cli.client import Home, Key, Server, connect
from server.cli.console import (
    AsJson,
    errors,
    minute,
    print_json,
    print_table,
    progress_bar,
    say,
)
from server.jobs.report import (
    METRICS,
    gain_text,
    how_measured,
    interval_text,
    rows,
    title_of,
)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


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
        jobs = list(api.pages("jobs", query={"status": status}))
    if as_json:
        print_json(jobs)
        return
    rows = [
        (job["id"], job["status"], job["options"]["method"], job["name"], job["model"] or "",
         minute(job["created_at"]), job["created_by"])
        for job in jobs
    ]  # fmt: skip
    columns = ("job", "status", "method", "name", "model", "created", "by")
    print_table("Jobs", columns, rows)


def show_job(
    job: JobId, home: Home = None, server: Server = None, key: Key = None, as_json: AsJson = False
) -> None:
    """Show a job's state and, once it has succeeded, its report."""
    with connect(home, server, key) as api:
        item = api.ask("GET", "jobs", job)
        succeeded = item["status"] == "succeeded"
        report = api.ask("GET", "jobs", job, "report") if succeeded else None
    if as_json:
        print_json({"job": item, "report": report})
        return
    if report is not None:
        print_report(report)
    say(ending_of(item))


def cancel_job(job: JobId, home: Home = None, server: Server = None, key: Key = None) -> None:
    """Cancel a job: a queued one at once, a running one within two seconds."""
    with connect(home, server, key) as api:
        item = api.ask("POST", "jobs", job, "cancel")
    say(f"{item['id']}: {'cancelled' if item['status'] == 'cancelled' else 'is being cancelled'}")


def publish_candidate(
    job: JobId,
    candidate: Annotated[str, typer.Argument(help="Name of one of the job's candidates.")],
    name: Annotated[
        str | None, typer.Option(help="Name to publish under; default: the job's.")
    ] = None,
    home: Home = None,
    server: Server = None,
    key: Key = None,
) -> None:
    """Publish another candidate of a job."""
    with connect(home, server, key, with_base=True) as api:
        item = api.ask("POST", "jobs", job, "publish", json={"candidate": candidate, "name": name})
    say(ending_of(item))


Show = Callable[[Mapping[str, Any]], None]


@contextmanager
def watching() -> Iterator[Show]:
    """Yield a function that shows events: steps in a progress bar, messages as lines."""
    with progress_bar("waiting") as bar:

        def show(event: Mapping[str, Any]) -> None:
            data = event["data"]
            if event["kind"] == "metrics":
                loss = data["valid_loss"] if data["valid_loss"] is not None else data["train_loss"]
                title = data["stage"] if loss is None else f"{data['stage']}, loss {loss:.3f}"
                bar(data["step"], data["steps"], title)
            else:
                errors.print(escape(event["message"]), highlight=False, soft_wrap=True)

        yield show


def print_report(report: Mapping[str, Any]) -> None:
    """Print the candidates with their metrics, best first, and the recommendation."""
    listed = list(rows(report))
    metrics = [m for m in METRICS if any(row.figures[m] for row in listed)]
    served = any(row.served for row in listed)
    columns = ["candidate", *map(title_of, metrics)]
    columns += [f"{title_of(metric)} as served" for metric in metrics] if served else []
    compared = any(row.comparison for row in listed)
    columns += ["gain"] if compared else []
    cells = [
        (row.name,
         *(interval_text(row.figures[metric], metric) for metric in metrics),
         *(interval_text(row.as_served(metric), metric) for metric in metrics if served),
         *([gain_text(row.comparison, report["metric"])] if compared else []),
         "published" if row.published else row.reason or "")
        for row in listed
    ]  # fmt: skip
    title = "Candidates on examples that they never saw, with 95 % intervals"
    print_table(title, (*columns, ""), cells)
    if how := how_measured(report):
        say(how)
    say(str(report["sentence"]))
    if report["served"]:
        say(str(report["served"]))


def ending_of(job: Mapping[str, Any]) -> str:
    """Return a job's state as a sentence."""
    if job["status"] == "failed":
        return f"{job['id']} failed ({job['error']['code']}): {job['error']['message']}"
    if job["model"]:
        return f"{job['id']} {job['status']}: its model is {job['model']}"
    return f"{job['id']}: {job['status']}"
