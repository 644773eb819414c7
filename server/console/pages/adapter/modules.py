"""The modules of a version: norm and rank over layers; and the findings of its admission."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.console.api.adapters import Finding, VersionDetail
from server.console.parts.chart import INK, Options, axis, categories, chart
from server.console.parts.empty import empty
from server.console.parts.table import Column, Table
from server.console.parts.text import plain, tagged

_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class ModuleRow:
    """One module: `layer` is None for those outside of the layers, such as the head."""

    name: str
    layer: int | None
    kind: str
    rank: int
    norm: float | None
    alpha: float
    shape: str


COLUMNS = [
    Column[ModuleRow]("Module", lambda row: row.name),
    Column[ModuleRow]("Rank", lambda row: row.rank),
    Column[ModuleRow]("Norm", lambda row: row.norm),
    Column[ModuleRow]("Alpha", lambda row: row.alpha),
    Column[ModuleRow]("Shape (out, in)", lambda row: row.shape),
]


def module_rows(version: VersionDetail) -> list[ModuleRow]:
    """Return the modules by layer and kind."""
    norms = version.report.facts.norms
    rows = [
        ModuleRow(
            name, *_place(name), module.rank, norms.get(name), module.alpha,
            f"{module.d_out}, {module.d_in}",
        )
        for name, module in version.modules.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-1 if row.layer is None else row.layer, row.kind))


def over_layers(
    rows: Sequence[ModuleRow], value: Callable[[ModuleRow], float | None], name: str
) -> Options:
    """Return a chart with a line per kind of module over the layers."""
    layers = sorted({row.layer for row in rows if row.layer is not None})
    places = {layer: index for index, layer in enumerate(layers)}
    lines: dict[str, list[float | None]] = {}
    for row in rows:
        if row.layer is not None:
            line = lines.setdefault(row.kind, [None] * len(layers))
            line[places[row.layer]] = value(row)
    series: list[dict[str, Any]] = [
        {"type": "line", "name": plain(kind, 60), "data": line, "symbolSize": 5}
        for kind, line in lines.items()
    ]
    return {
        "xAxis": categories([str(layer) for layer in layers], name="layer",
                            nameTextStyle={"color": INK}),
        "yAxis": axis(name),
        "series": series,
        "tooltip": {"renderMode": "richText", "confine": True, "trigger": "axis"},
    }  # fmt: skip


def draw_modules(version: VersionDetail) -> None:
    """Draw norm and rank of the modules over layers."""
    tagged("h2", "Modules").classes("text-lg font-bold")
    rows = module_rows(version)
    chart("Norm of each update over layers", over_layers(rows, lambda row: row.norm, "norm"),
          COLUMNS, rows)  # fmt: skip
    chart("Rank over layers", over_layers(rows, lambda row: row.rank, "rank"), COLUMNS, rows,
          height="14rem")  # fmt: skip


def draw_findings(version: VersionDetail) -> None:
    """Draw what admission and the probe found."""
    tagged("h2", "Findings").classes("text-lg font-bold")
    if not version.report.findings:
        empty("Admission found nothing to say about this version.")
        return
    Table(
        "Findings of admission",
        [
            Column[Finding]("Severity", lambda finding: finding.severity),
            Column[Finding]("Code", lambda finding: finding.code),
            Column[Finding]("File", lambda finding: finding.file),
            Column[Finding]("Tensor", lambda finding: finding.tensor),
            Column[Finding]("Expected", lambda finding: finding.expected),
            Column[Finding]("Found", lambda finding: finding.found),
        ],
        version.report.findings,
    )


def _place(name: str) -> tuple[int | None, str]:
    """Return the layer of a module, and its name without the layer."""
    match = _LAYER.search(name)
    if match is None:
        return None, name
    return int(match[1]), name[match.end() :]
