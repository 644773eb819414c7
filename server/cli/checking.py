"""`weft check`: the admission report of a folder, with a registry or without one."""

from pathlib import Path
from typing import Annotated

import typer

from registry.admission.admit import admit
from registry.admission.foreign import load_raw, named_base
from registry.admission.tokenizer import read_tokenizer
from registry.bases import architecture_of, base_keys
from registry.errors import UnknownBase
from registry.types import AdmissionReport, Base
from server.base_model import read_model_config
from server.base_shapes import base_shapes
from server.cli.bases import known_bases
from server.cli.console import AsJson, console, print_json, print_table
from server.settings import Settings


def check(
    folder: Annotated[Path, typer.Argument(help="An adapter folder.")],
    base: Annotated[
        str | None,
        typer.Option(help="The base: a known name, or a folder with its config.json."),
    ] = None,
    as_json: AsJson = False,
    home: Annotated[Path | None, typer.Option(help="Folder of a registry (WEFT_HOME).")] = None,
) -> None:
    """Print whether an adapter would be admitted and every finding; exit 1 if it is refused."""
    settings = Settings() if home is None else Settings(home=home)
    known = known_bases(settings)
    report = admit(folder, _chosen(base, known, folder), settings.policy, known=known)
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(folder, report)
    if not report.accepted:
        raise typer.Exit(1)


def _chosen(name: str | None, known: tuple[Base, ...], adapter: Path) -> Base | None:
    if name is None:
        return None
    if (Path(name) / "config.json").is_file():
        config = read_model_config(name)
        # A folder has shapes but no name: the name that the adapter gives its base is accepted.
        named = named_base(load_raw(adapter))
        keys = base_keys(name, [] if named is None else [named])
        template = read_tokenizer(Path(name)).chat_template
        return Base(name, architecture_of(config), base_shapes(config), keys, template)
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
        f": rank {facts.rank}, {len(facts.modules)} modules, norm {facts.norm:.4g}"
        if facts and facts.norm is not None
        else ""
    )
    console.print(f"{verdict}{detail}", highlight=False)
