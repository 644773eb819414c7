"""What a draft means and would take: figures, warnings, shares of the norm, cosines."""

from dataclasses import dataclass

from nicegui import ui

from server.console.api.composing import Explanation, Part
from server.console.pages.compose.charts import matrix_chart, share_chart
from server.console.parts.chart import chart
from server.console.parts.table import Column
from server.console.parts.text import tagged


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of two ingredients; None where it is not known."""

    first: str
    second: str
    value: float | None


def show_explanation(explanation: Explanation) -> None:
    """Show an explanation, its warnings first."""
    if explanation.kind == "base":
        tagged("p", f"This is the base itself, {explanation.base}. Add adapters to compose.")
        return
    for warning in explanation.warnings:
        with ui.row().classes("weft-refusal w-full items-center").props("role=status"):
            ui.icon("warning").props("aria-hidden=true")
            tagged("p", warning.message, 1000)
    with ui.row().classes("w-full gap-6").mark("figures"):
        for label, value in figures(explanation):
            with ui.column().classes("gap-0"):
                tagged("span", label).classes("text-sm")
                tagged("span", value).classes("font-bold")
    _show_shares(explanation.ingredients)
    names = [part.reference for part in explanation.ingredients]
    if len(names) > 1:
        show_matrix("Cosines between the updates", names, explanation.cosines, low=-1.0)


def figures(explanation: Explanation) -> list[tuple[str, str]]:
    """Return the figures of a merge as label and text; what is not known is left out."""
    rows: list[tuple[str, str | None]] = [
        ("Rank", None if explanation.rank is None else str(explanation.rank)),
        ("Size", size(explanation.nbytes)),
        ("Memory to merge", size(explanation.memory_bytes)),
        ("Time to merge", duration(explanation.seconds)),
        ("Built", explanation.artifact[:12] if explanation.artifact else "not yet"),
    ]
    return [(label, value) for label, value in rows if value is not None]


def size(count: int | None) -> str | None:
    """Return a number of bytes in the unit that suits it."""
    if count is None:
        return None
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def duration(seconds: float | None) -> str | None:
    """Return a time in the unit that suits it."""
    if seconds is None:
        return None
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"


def show_matrix(
    title: str, names: list[str], rows: list[list[float | None]], *, low: float = 0.0
) -> None:
    """Show values of pairs of ingredients, from `low` to 1, as a heat map with its table."""
    pairs = [
        Pair(first, second, rows[i][j])
        for i, first in enumerate(names)
        for j, second in enumerate(names)
        if i < j
    ]
    columns = [
        Column[Pair]("First", lambda pair: pair.first),
        Column[Pair]("Second", lambda pair: pair.second),
        Column[Pair]("Value", lambda pair: pair.value),
    ]
    chart(title, matrix_chart(names, rows, low=low), columns, pairs)


def _show_shares(parts: list[Part]) -> None:
    columns = [
        Column[Part]("Ingredient", lambda part: part.reference),
        Column[Part]("Weight", lambda part: part.weight),
        Column[Part]("Rank", lambda part: part.rank),
        Column[Part]("Norm", lambda part: part.norm),
        Column[Part]("Share of the norm", lambda part: part.share),
    ]
    names, shares = [part.reference for part in parts], [part.share for part in parts]
    height = f"{4 + 2 * len(parts)}rem"
    chart("Shares of the norm", share_chart(names, shares), columns, parts, height=height)
