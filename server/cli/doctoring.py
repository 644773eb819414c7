"""`weft doctor`: what is wrong with an installation, and what to do."""

from collections.abc import Iterator
from dataclasses import asdict

import typer
from pydantic import ValidationError

from server.cli.client import Home, settings_of
from server.cli.console import AsJson, console, message_of, print_json, say
from server.config_file import ConfigInvalid
from server.doctor.examine import examine
from server.doctor.finding import Finding, wrong

_MARKS = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]",
          "wrong": "[red]wrong[/red]"}  # fmt: skip


def doctor(home: Home = None, as_json: AsJson = False) -> None:
    """Check versions, GPU, ports, disks, database, store, engine; exit 1 if one is wrong.

    Nothing is created or changed, but for a small object in the store that is removed again. Run
    it as the user and with the variables of the service.
    """
    findings = list(_findings(home))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _findings(home: Home) -> Iterator[Finding]:
    try:
        settings = settings_of(home)
    except (ValidationError, ConfigInvalid) as error:
        yield wrong("settings", message_of(error), "correct it; nothing else was checked")
        return
    yield from examine(settings)


def _print(finding: Finding) -> None:
    console.print(f"{_MARKS[finding.state]} {finding.part}", end=": ", highlight=False)
    say(finding.detail)
    if finding.advice:
        say(f"    {finding.advice}")
