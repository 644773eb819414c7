"""From cells to figures: retention, chances, gains, each with its interval over subsets.

Covered: what each figure is the mean of. Not covered: their layout (`tables.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from tests.lab.skills.merging.bootstrap import Span, mean_span, share_span
from tests.lab.skills.merging.cells import Alone, Cell
from tests.lab.skills.merging.design import Wanted
from tests.lab.skills.merging.measure import BASE


class Measured(NamedTuple):
    """A cell with the place it was wanted for."""

    wanted: Wanted
    cell: Cell


class Scores:
    """What base and adapters reach alone: shares of right answers by model and task."""

    def __init__(self, alone: Iterable[Alone]) -> None:
        self._shares = {(one.model, one.task): one.right / one.tests for one in alone}

    def share(self, model: str, task: str) -> float:
        """The share of right answers."""
        return self._shares[model, task]

    def retentions(self, cell: Cell, mode: str) -> list[float]:
        """Score over the own adapter's score, of the skills whose adapter answers any."""
        own = {name: self.share(name, name) for name in cell.skills}
        return [
            cell.right[mode][name] / cell.tests / own[name] for name in cell.skills if own[name]
        ]

    def beats_base(self, cell: Cell, mode: str) -> bool:
        """Whether the mean over the ingredients' tasks is above the base's."""
        base = fmean(self.share(BASE, name) for name in cell.skills)
        return fmean(cell.right[mode].values()) / cell.tests > base

    def gain(self, cell: Cell) -> float | None:
        """Mean over the tasks of two skills: score minus that of the best ingredient alone.

        The best one is chosen on the prompts that it is tested on, which favours it.
        """
        gains = [
            right / cell.tests - max(self.share(name, task) for name in cell.skills)
            for task, right in cell.composed.items()
        ]
        return fmean(gains) if gains else None


class Figures(NamedTuple):
    """One row at one scale, over its subsets."""

    mean: Span  # retention, mean over the subset's skills
    worst: Span  # of the subset's skills
    beats_base: Span


def by_row(measured: Iterable[Measured]) -> dict[str, list[Measured]]:
    """The cells of each row, in the design's order."""
    groups: defaultdict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        groups[one.wanted.row.label].append(one)
    return dict(groups)


def figures(cells: Sequence[Measured], scores: Scores, mode: str) -> Figures:
    """The figures of a row's cells in a mode."""
    kept = [values for _, cell in cells if (values := scores.retentions(cell, mode))]
    return Figures(
        mean_span([fmean(values) for values in kept]),
        mean_span([min(values) for values in kept]),
        share_span([scores.beats_base(cell, mode) for _, cell in cells]),
    )


def gains(cells: Sequence[Measured], scores: Scores) -> Span | None:
    """The gain over the best ingredient, of subsets that have a task of two skills."""
    known = [gain for _, cell in cells if (gain := scores.gain(cell)) is not None]
    return mean_span(known) if known else None


def difference(
    ours: Sequence[Measured], theirs: Sequence[Measured], scores: Scores, mode: str
) -> Span:
    """The mean difference of mean retentions on the same subsets."""
    other = means(theirs, scores, mode)
    return mean_span([value - other[key] for key, value in means(ours, scores, mode).items()])


def means(
    cells: Sequence[Measured], scores: Scores, mode: str
) -> Mapping[tuple[tuple[str, ...], int | None], float]:
    """Mean retention by subset and rank asked for; a subset that no adapter can do has none."""
    return {
        (cell.skills, wanted.rank): fmean(values)
        for wanted, cell in cells
        if (values := scores.retentions(cell, mode))
    }
