"""Measured cells as Markdown tables.

A row is shown when every cell of its variant is there; what is missing is listed instead.

Covered: the tables and which values each interval is over. Not covered: conclusions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from tests.lab.language import TASKS
from tests.lab.merging.cells import MODES, Cell
from tests.lab.merging.design import GROWING_SIZES, SHARES, TABLE_SIZES, Wanted
from tests.lab.merging.intervals import Interval, difference, interval

MODE_NAMES = {"1": "scale 1", "match": "matched norm", "best": "best scale"}


class Measured(NamedTuple):
    """A cell with the place it was wanted for."""

    wanted: Wanted
    cell: Cell


def by_label(measured: Iterable[Measured]) -> dict[str, list[Measured]]:
    """The cells of each variant, in the design's order."""
    groups: defaultdict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        groups[one.wanted.variant.label].append(one)
    return dict(groups)


def distinct(measured: Iterable[Measured]) -> list[Cell]:
    """The different cells: all orders of all eight tasks are one merge."""
    return list({one.cell.key: one.cell for one in measured}.values())


def per_unit(measured: Iterable[Measured], value: Callable[[Cell], float]) -> list[float]:
    """For each pair of adapter seed and order, the mean of a value over sizes."""
    units: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for wanted, cell in measured:
        units[wanted.seed, wanted.order].append(value(cell))
    return [fmean(units[unit]) for unit in sorted(units)]


def of_sizes(measured: Iterable[Measured], sizes: Sequence[int]) -> list[Measured]:
    """The cells that merge as many adapters as one of `sizes`."""
    return [one for one in measured if len(one.cell.tasks) in sizes]


def mean_in(mode: str) -> Callable[[Cell], float]:
    """The function from a cell to its mean over tasks in a mode."""
    return lambda cell: cell.mean(mode)


def adapters(accuracies: Mapping[int, Mapping[str, float]]) -> str:
    """By adapter seed and task: what an adapter alone answers right of its own task."""
    rows = [
        [f"seed {seed}", *(f"{alone[task]:.3f}" for task in TASKS)]
        for seed, alone in accuracies.items()
    ]
    return table(["adapters", *TASKS], rows)


def summary(measured: Sequence[Measured], baseline: str) -> str:
    """One row for each variant that was merged at all table sizes, the best first."""
    groups = by_label(of_sizes(measured, TABLE_SIZES))
    best = {label: per_unit(cells, mean_in("best")) for label, cells in groups.items()}
    rows = []
    for label in sorted(groups, key=lambda label: -fmean(best[label])):
        cells = groups[label]
        rank = max(cell.rank for _, cell in cells)
        norm = fmean(cell.norm for _, cell in cells)
        means = [shown(interval(per_unit(cells, mean_in(mode)))) for mode in MODES]
        against = duel(best[label], best[baseline]) if baseline in best else ""
        kept = fmean(cell.base_skills for _, cell in cells)
        rows.append([label, str(rank), f"{norm:.2f}", *means, against, f"{kept:.3f}"])
    header = ["method", "rank ≤", "norm at scale 1", *MODE_NAMES.values()]
    return table([*header, f"best, minus {baseline}", "base's skills (best)"], rows)


def by_task(measured: Sequence[Measured], mode: str) -> str:
    """By method and task, at one scale: means over the merges that hold the task's adapter."""
    rows = []
    for label, cells in by_label(of_sizes(measured, TABLE_SIZES)).items():
        merged = distinct(cells)
        means = [fmean(c.marks[mode][task] for c in merged if task in c.tasks) for task in TASKS]
        mean = interval(per_unit(cells, mean_in(mode)))
        rows.append([label, *(f"{value:.2f}" for value in means), shown(mean)])
    return table(["method", *TASKS, "mean of merges"], rows)


def by_size(measured: Sequence[Measured], mode: str, sizes: Sequence[int]) -> str:
    """By method and number of ingredients, at one scale; of variants merged at all those sizes."""
    rows = []
    for label, intervals in size_intervals(measured, mode, sizes).items():
        rows.append([label, *map(shown, intervals)])
    return table(["method", *(f"{size} adapters" for size in sizes)], rows)


def by_scale(measured: Sequence[Measured], size: int) -> str:
    """By method and scale, for one number of ingredients."""
    columns = [size_intervals(measured, mode, [size]) for mode in MODES]
    rows = [
        [label, *(shown(value) for column in columns for value in column[label])]
        for label in columns[0]
    ]
    return table(["method", *MODE_NAMES.values()], rows)


def size_intervals(
    measured: Sequence[Measured], mode: str, sizes: Sequence[int]
) -> dict[str, list[Interval]]:
    """For each variant merged at all those sizes, an interval over different merges."""
    found = {}
    for label, cells in by_label(measured).items():
        groups = [distinct(of_sizes(cells, [size])) for size in sizes]
        if all(groups):
            found[label] = [interval([c.mean(mode) for c in group]) for group in groups]
    return found


def duels(measured: Sequence[Measured], ours: str) -> str:
    """One variant against each other that grew with it: paired differences of means."""
    groups = by_label(measured)
    grown = size_intervals(measured, "1", GROWING_SIZES)
    rows = []
    for label in grown if ours in grown else ():
        if label != ours:
            pairs = [
                [per_unit(groups[name], mean_in(mode)) for name in (ours, label)] for mode in MODES
            ]
            rows.append([label, *(duel(*pair) for pair in pairs)])
    return table([f"{ours} minus", *MODE_NAMES.values()], rows)


def duel(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """A paired difference in words: bold when its sign is clear, with the share of wins."""
    apart = difference(ours, theirs)
    text = f"{apart.mean:+.3f} ± {apart.half or 0.0:.3f}"
    wins = sum(a > b for a, b in zip(ours, theirs, strict=True))
    return f"{f'**{text}**' if apart.is_clear else text} ({wins}/{len(ours)})"


def pruned(measured: Sequence[Measured], mode: str) -> str:
    """By method and share of the rank kept, on the adapter's own task."""
    rows = [
        [label, *map(shown, intervals)]
        for label, intervals in share_intervals(measured, mode).items()
    ]
    return table(["method", *(f"r/{share}" for share in SHARES)], rows)


def share_intervals(measured: Sequence[Measured], mode: str) -> dict[str, list[Interval]]:
    """For each pruning, an interval over adapters at each share of the rank."""
    return {
        label: [
            interval([c.mean(mode) for wanted, c in cells if wanted.share == share])
            for share in SHARES
        ]
        for label, cells in by_label(measured).items()
    }


def shown(value: Interval) -> str:
    """A mean and its interval's half width."""
    return f"{value.mean:.3f}" + ("" if value.half is None else f" ± {value.half:.3f}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
