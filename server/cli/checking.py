"""`weft check`: the admission report of a folder, with a registry or without one."""

from pathlib import Path
from typing import Annotated

import typer

from merge.peft_format import inspect_folder
from registry.admission.admit import admit
from registry.bases import LLAMA_31_8B_INSTRUCT, architecture_of, base_keys, module_shapes
from registry.errors import UnknownBase
from registry.types import AdmissionReport, Base
from server.base_model import read_model_config
from server.cli.console import AsJson, console, explained, print_json, print_table
from server.serve import open_registry
from server.settings import Settings


@explained
def check(
    folder: Annotated[Path, typer.Argument(help="An adapter folder.")],
    base: Annotated[
        str | None,
        typer.Option(help="The base: a known name, or a folder with its config.json."),
    ] = None,
    as_json: AsJson = False,
    home: Annotated[Path | None, typer.Option(help="Folder of a registry (WEFT_HOME).")] = None,
) -> None:
    """Say whether an adapter would be admitted, and everything that was found; exit 1 if not."""
    settings = Settings() if home is None else Settings(home=home)
    known = _known_bases(settings)
    report = admit(folder, _chosen(base, known, folder), settings.policy, known=known)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(folder, report)
    if not report.accepted:
        raise typer.Exit(1)


def _known_bases(settings: Settings) -> tuple[Base, ...]:
    """Return the registry's bases where there is one; looking must not make one."""
    if settings.database_url is None and not settings.home.is_dir():
        return (LLAMA_31_8B_INSTRUCT,)
    return open_registry(settings)[0].bases.list()


def _chosen(name: str | None, known: tuple[Base, ...], adapter: Path) -> Base | None:
    if name is None:
        return None
    if (Path(name) / "config.json").is_file():
        config = read_model_config(name)
        # A folder has shapes but no name: whatever name the adapter gives is taken for its.
        opened, _ = inspect_folder(adapter)
        said = [opened.config.base] if opened and opened.config.base else []
        shapes = module_shapes(config)
        return Base(name, architecture_of(config), shapes, base_keys(name, said))
    keys = base_keys(name, ())
    for base in known:
        if base.keys & keys:
            return base
    raise UnknownBase(name, [base.name for base in known])


def _print_report(folder: Path, report: AdmissionReport) -> None:
    rows = [
        (f.severity, f.problem.code, f.problem.tensor or f.problem.file, f.problem.expected,
         f.problem.found)
        for f in report.findings
    ]  # fmt: skip
    if rows:
        print_table(str(folder), ("severity", "code", "where", "expected", "found"), rows)
    verdict = "[green]admitted[/green]" if report.accepted else "[red]refused[/red]"
    facts = report.facts
    detail = (
        f": rank {facts.rank}, {len(facts.modules)} modules, norm {facts.norm}" if facts else ""
    )
    console.print(f"{verdict}{detail}", highlight=False)
