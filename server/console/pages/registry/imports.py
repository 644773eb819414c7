"""Imports with the findings of their admission, and those that were refused."""

from nicegui import ui

from server.console.api.files import Finding, Import, ImportOutcome, imports
from server.console.page import PageContext
from server.console.parts.empty import empty
from server.console.parts.table import Column, cursor_table
from server.console.parts.text import tagged
from server.console.parts.units import moment

_ADMITTED, _REFUSED = "admitted", "refused"


def build(page: PageContext) -> None:
    """Show the admitted imports, or the refused ones."""
    refused = page.parameters.get("outcome") == _REFUSED
    outcome: ImportOutcome = "refused" if refused else "admitted"
    ui.toggle(
        [_ADMITTED, _REFUSED], value=outcome,
        on_change=lambda event: ui.navigate.to(f"/registry?outcome={event.value}"),
    ).props("no-caps aria-label=Outcome")  # fmt: skip

    def nothing() -> None:
        if refused:
            empty("No import was refused. Only imports from the Hub are remembered here.")
        else:
            empty("Nothing was imported yet.", command="weft adapters import FOLDER")

    columns = _REFUSED_COLUMNS if refused else _ADMITTED_COLUMNS
    cursor_table(
        f"Imports that were {outcome}", columns,
        lambda cursor: imports(page.api, outcome, cursor), nothing,
    )  # fmt: skip


def finding_text(finding: Finding) -> str:
    """Return a finding as a sentence."""
    where = finding.file if finding.tensor is None else f"{finding.file}, {finding.tensor}"
    return (
        f"{finding.severity}: {finding.code} in {where}: expected {finding.expected}, "
        f"found {finding.found}"
    )


def _draw_findings(item: Import) -> None:
    told = [*map(finding_text, item.findings), *item.problems]
    if not told:
        tagged("span", "none")
    for each in told:
        tagged("p", each, 600)


def _findings(item: Import) -> int:
    return len(item.findings) + len(item.problems)


_NAME = Column[Import](
    "Adapter", lambda item: item.reference or item.name, href=lambda item: f"/adapters/{item.name}"
)
_FINDINGS = Column[Import]("Findings", _findings, cell=_draw_findings)
_SOURCE = Column[Import]("Source", lambda item: item.source)
_AT = Column[Import]("At", lambda item: moment(item.at))
_BY = Column[Import]("By", lambda item: item.by)
_STATUS = Column[Import]("Status", lambda item: item.status)
_ADMITTED_COLUMNS = [_NAME, _FINDINGS, _STATUS, _SOURCE, _AT, _BY]
_REFUSED_COLUMNS = [
    Column[Import]("Adapter", lambda item: item.name), _FINDINGS, _SOURCE, _AT, _BY,
]  # fmt: skip
