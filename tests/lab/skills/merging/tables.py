"""Measured cells as Markdown tables. Covered: the layout. Not covered: conclusions."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from tests.lab.merging.cells import MODES
from tests.lab.merging.tables import MODE_NAMES, table
from tests.lab.skills import SKILLS
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.merging.bootstrap import Span, mean_span
from tests.lab.skills.merging.design import PRUNED, SIZES
from tests.lab.skills.merging.figures import (
    Figures,
    Measured,
    Scores,
    by_row,
    difference,
    figures,
    gains,
)
from tests.lab.skills.merging.measure import BASE

FACTOR_ALONE = "="  # the row is another one times a factor, so this figure is that one's


def alone(scores: Scores) -> str:
    """The base and the adapters on every task."""
    rows = [
        [name, f"{scores.share(BASE, name):.2f}", f"{scores.share(name, name):.2f}"]
        for name in SKILLS
    ]
    for name, task in COMPOSED.items():
        best = max(SKILLS, key=lambda skill: scores.share(skill, task.name))
        shown_best = f"{scores.share(best, name):.2f} ({best})"
        rows.append([name, f"{scores.share(BASE, name):.2f}", shown_best])
    return table(["task", "base", "own adapter, or the best one"], rows)


def summary(measured: Sequence[Measured], scores: Scores, baseline: str) -> str:
    """One line a row, those with the best worst case first, at the scale of validation prompts."""
    groups = by_row(measured)
    known = {label: figures_by_mode(cells, scores) for label, cells in groups.items()}
    lines = []
    for label in sorted(groups, key=lambda label: _order(known[label])):
        cells, own = groups[label], known[label]
        gain = gains(cells, scores)
        against = [
            bold(difference(cells, groups[baseline], scores, mode))
            if baseline in groups and label != baseline and mode in own
            else ""
            for mode in ("1", "best")
        ]
        lines.append([
            label, str(max(cell.rank for _, cell in cells)),
            f"{fmean(cell.norm for _, cell in cells):.2f}",
            *(shown(own[mode].mean) if mode in own else FACTOR_ALONE for mode in MODES),
            shown(own["best"].worst) if "best" in own else FACTOR_ALONE,
            shown(gain) if gain and "best" in own else "", *against,
        ])  # fmt: skip
    header = ["method", "rank ≤", "norm at scale 1", *MODE_NAMES.values(), "worst (best scale)"]
    header += ["gain on two skills", f"scale 1, minus {baseline}", f"best, minus {baseline}"]
    return table(header, lines)


def by_mode(measured: Sequence[Measured], scores: Scores, mode: str) -> str:
    """Mean and worst retention and the chance to beat the base, at one scale."""
    lines = []
    for label, cells in by_row(measured).items():
        if mode in (own := figures_by_mode(cells, scores)):
            scale = fmean(cell.scales[mode] for _, cell in cells)
            lines.append([label, f"{scale:.2f}", *map(shown, own[mode])])
    return table(["method", "scale", "mean retention", "worst retention", "P(> base)"], lines)


def by_size(measured: Sequence[Measured], scores: Scores, mode: str) -> str:
    """Mean retention by number of adapters, at one scale."""
    lines = []
    for label, cells in by_row(measured).items():
        if mode in cells[0].wanted.row.modes:
            sized = [[one for one in cells if len(one.cell.skills) == size] for size in SIZES]
            lines.append([
                label,
                *(f"{figures(group, scores, mode).mean.mean:.2f}" if group else ""
                  for group in sized),
            ])  # fmt: skip
    return table(["method", *(f"{size} adapters" for size in SIZES)], lines)


def by_skill(measured: Sequence[Measured], mode: str) -> str:
    """Share of right answers by task, over the merges that hold its adapter, at one scale."""
    lines = []
    for label, cells in by_row(measured).items():
        if mode in cells[0].wanted.row.modes:
            shares = {
                name: [c.right[mode][name] / c.tests for _, c in cells if name in c.skills]
                for name in SKILLS
            }
            lines.append([label, *(f"{fmean(s):.2f}" if s else "" for s in shares.values())])
    return table(["method", *SKILLS], lines)


def duels(measured: Sequence[Measured], scores: Scores, theirs: str) -> str:
    """Every row against one: paired differences of mean retention, bold where the sign is clear."""
    groups = by_row(measured)
    lines = [
        [
            label,
            *(
                bold(difference(cells, groups[theirs], scores, mode))
                if mode in cells[0].wanted.row.modes
                else FACTOR_ALONE
                for mode in MODES
            ),
        ]
        for label, cells in groups.items()
        if theirs in groups and label != theirs
    ]
    return table([f"minus {theirs}", *MODE_NAMES.values()], lines)


def pruned(measured: Sequence[Measured], scores: Scores, mode: str) -> str:
    """Retention by rank of one adapter alone, over adapters."""
    lines = []
    for label, cells in by_row(measured).items():
        spans = []
        for rank in PRUNED:
            kept = [
                value
                for wanted, cell in cells
                if wanted.rank == rank
                for value in scores.retentions(cell, mode)
            ]
            spans.append(shown(mean_span(kept)) if kept else "")
        lines.append([label, *spans])
    return table(["method", *(f"rank {rank}" for rank in PRUNED)], lines)


def figures_by_mode(cells: Sequence[Measured], scores: Scores) -> Mapping[str, Figures]:
    """A row's figures in the modes that it is measured in."""
    return {mode: figures(cells, scores, mode) for mode in cells[0].wanted.row.modes}


def shown(span: Span) -> str:
    """A figure with its interval."""
    if span.low is None or span.high is None:
        return f"{span.mean:.2f}"
    return f"{span.mean:.2f} [{span.low:.2f}, {span.high:.2f}]"


def bold(span: Span) -> str:
    """A difference with its interval, bold where that leaves out 0."""
    ends = "" if span.low is None else f" [{span.low:+.2f}, {span.high:+.2f}]"
    text = f"{span.mean:+.2f}{ends}"
    return f"**{text}**" if span.is_clear else text


def _order(own: Mapping[str, Figures]) -> tuple[bool, float]:
    last = own.get("best", own["1"])
    return "best" not in own, -last.mean.mean
