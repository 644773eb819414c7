"""What a recipe's ingredients say of their merge before it is built.

Covered: where ingredients have opposite signs, and how much of their weighted sum a rank keeps.
Both are of the ingredients alone, whatever the method. Not covered: the result of the method, which
the report of the merge measures, and what needs no tensors (`forecast`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from merge.linalg import singular_values
from merge.measure import sign_conflict, sign_conflicts
from merge.merge_run import MergeRun
from merge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Preview:
    """Figures over all modules of a merge. `energy[k - 1]` is of the best sum of rank k."""

    modules: int
    rank: int  # of the merge: the largest of any module, or a bound where the option energy decides
    conflict: float | None  # share of positions with both signs; None for one ingredient
    conflicts: tuple[tuple[float | None, ...], ...]  # by pair; None: without a common module
    energy: tuple[float, ...]  # share of the sum's squared norm that the rank keeps in each module


def preview(recipe: Recipe, folders: Mapping[str, Path]) -> Preview:
    """Measure the ingredients of a recipe, a module at a time.

    Weights count in the energy, as `equalise` changes them, and not in the conflicts of signs.

    Raises:
        as `MergeRun`, and as its `stacks`.
    """
    signs, spectra = _Signs(len(recipe.ingredients)), []
    with MergeRun(recipe, folders) as run:
        for positions, stack in run.stacks():
            spectra.append(singular_values(stack.members, stack.weights))
            entries = len(stack.members[0].b) * stack.members[0].a.shape[1]
            signs.add(positions, entries, sign_conflict(stack), sign_conflicts(stack))
        rank = max(shape.rank for shape in run.outputs.values())
        return Preview(len(run.outputs), rank, signs.overall, signs.pairs, _energy(spectra))


class _Signs:
    """Conflicts of modules added up, each by the number of its entries."""

    def __init__(self, ingredients: int) -> None:
        self._conflict = self._entries = 0.0
        self._conflicts = torch.zeros(ingredients, ingredients, dtype=torch.float64)
        self._shared = torch.zeros_like(self._conflicts)

    def add(
        self, positions: Sequence[int], entries: int, conflict: float | None, conflicts: Tensor
    ) -> None:
        at = torch.tensor(positions)
        self._conflicts[at[:, None], at] += entries * conflicts
        self._shared[at[:, None], at] += entries
        if conflict is not None:
            self._conflict += entries * conflict
            self._entries += entries

    @property
    def overall(self) -> float | None:
        return self._conflict / self._entries if self._entries else None

    @property
    def pairs(self) -> tuple[tuple[float | None, ...], ...]:
        rows = zip(self._conflicts.tolist(), self._shared.tolist(), strict=True)
        return tuple(tuple(c / n if n else None for c, n in zip(*row, strict=True)) for row in rows)


def _energy(spectra: Sequence[Tensor]) -> tuple[float, ...]:
    """Return the share of all squares in the first k singular values of every module, by k."""
    # Relative, so that squares of huge values do not overflow; a sum of zero is kept by rank 1.
    largest = max(float(sigma[0]) for sigma in spectra) or 1.0
    squares = torch.zeros(max(map(len, spectra)), dtype=torch.float64)
    for sigma in spectra:
        squares[: len(sigma)] += (sigma / largest).square()
    total = float(squares.sum())
    if total == 0.0:
        return (1.0,) * len(squares)
    return tuple((squares.cumsum(0) / total).clamp(max=1.0).tolist())
