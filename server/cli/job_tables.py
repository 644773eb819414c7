"""How the command line shows jobs: their lines, their tables, and what goes on while one runs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.markup import escape

from server.cli.console import errors, minute, print_table, progress_bar, say
from server.jobs.report import METRICS, interval_text, rows, title_of

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
    metrics = [m for m in METRICS if any(row.figures.get(m) for row in listed)]
    served = any(row.served for row in listed)
    columns = ["candidate", *map(title_of, metrics)]
    columns += [f"{title_of(metric)} as served" for metric in metrics] if served else []
    cells = [
        (row.name,
         *(interval_text(row.figures.get(metric), metric) for metric in metrics),
         *(interval_text((row.served or {}).get(metric), metric) for metric in metrics if served),
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
