"""A merged module compared with its ingredients: norms, cosines, energy, sign conflict.

Norms and cosines are computed from inner products of MSUs, without a dense update. The sign
conflict is an estimate, on positions drawn by a fixed seed. Not covered: quality, which takes
examples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from merge.factors import (
    Grams,
    Members,
    Merged,
    Stack,
    inner_of_rows,
)
from merge.linalg import by_member, update_products
from merge.seeds import generator_for
from merge.written import Written

# Positions on which signs are compared: rows drawn at random, columns at even distances. 8,192
# independent positions have a standard error below 0.6 points, and modules average it further;
# even columns are a strided view, random ones would gather from every cache line.
_ROWS = 64
_COLUMNS = 128


@dataclass(frozen=True, slots=True)
class Measure:
    """Inner products of one module's result with itself and its ingredients' updates.

    Keys of `dots` and `squares` are positions in the recipe; an ingredient without the module has
    no key. Inner products, not norms and cosines, are stored because they add up over modules: the
    overall figures of an adapter are sums.
    """

    rank: int
    entries: int  # d_out · d_in
    square: float  # |result|²
    dots: Mapping[int, float]  # ⟨result, ingredient⟩
    squares: Mapping[int, float]  # |ingredient|²
    factor_norm: float  # the larger of |a| and |b|, over modules the largest
    energy: float | None  # |result|² / |what it approximates|²; None if exact
    conflict: float | None  # share of positions with both signs; None for one ingredient

    @property
    def norm(self) -> float:
        """Frobenius norm of the result's update; not finite where the result is not."""
        return _root(self.square)

    def ingredient_norm(self, ingredient: int) -> float:
        """Frobenius norm of an ingredient's update, before its weight."""
        return _root(self.squares[ingredient])

    def cosine(self, ingredient: int) -> float | None:
        """Cosine to an ingredient's update; None where it is absent or either is zero."""
        if ingredient not in self.dots:
            return None
        lengths = self.norm * self.ingredient_norm(ingredient)
        return self.dots[ingredient] / lengths if lengths > 0.0 else None

    def scaled(self, factor: float) -> "Measure":
        """Return the measure of the result times `factor`, which `b` takes."""
        return replace(
            self,
            square=self.square * factor * factor,
            dots={i: dot * factor for i, dot in self.dots.items()},
        )

    def written(self, written: Written) -> "Measure":
        """Return the measure with the norms of the file instead of those before the cast."""
        norm = max(written.norm_a, written.norm_b)
        return replace(self, square=written.square, factor_norm=norm)


def _root(square: float) -> float:
    # Rounding can leave the square of a vanishing update just below zero. The test is written with
    # `not` so that NaN passes through: a broken result must not look like a norm of 0.
    return math.sqrt(square) if not square < 0.0 else 0.0


def measure(
    stack: Stack, merged: Merged, positions: Sequence[int], written: Written | None = None
) -> Measure:
    """Measure one module's result against the stack's members, before their weights.

    Args:
        stack: what was merged.
        merged: its result.
        positions: (T,) the members' positions in the recipe.
        written: the result as it is written; None takes the result itself.
    """
    members = Members.of(stack.members)
    written = written or Written.of(merged.factors.folded())
    cross = _cross_exactly(members, written) if written.cancels else _cross(members, merged)
    scales = [member.scale for member in members]
    # ⟨b a, b' a'⟩ = Σ (b b'ᵀ)∘(a a'ᵀ) over pairs of MSUs, so a member's dot sums its columns.
    dots = (by_member(members) @ (cross.a * cross.b).sum(0)).tolist()
    squares = update_products(members, members.grams).diagonal().tolist()
    return Measure(
        rank=merged.factors.rank,
        entries=merged.factors.b.shape[0] * merged.factors.a.shape[1],
        square=written.square,
        dots={i: dot * scale for i, dot, scale in zip(positions, dots, scales, strict=True)},
        squares=dict(zip(positions, squares, strict=True)),
        factor_norm=max(written.norm_a, written.norm_b),
        energy=merged.energy,
        conflict=sign_conflict(stack),
    )


def _cross(members: Members, merged: Merged) -> Grams:
    """Return the inner products of the result's MSUs with the members', (k, R) each."""
    # A mix of other vectors (a canonical form, noise) says nothing about the stack's own MSUs.
    if merged.mix is not None and merged.mix.members is members:
        left, right, _ = merged.mix
        return Grams(left @ members.grams.a, right.mT @ members.grams.b)
    result = merged.factors
    return Grams(inner_of_rows(result.a, members.a), inner_of_rows(result.b.mT, members.b.mT))


def _cross_exactly(members: Members, written: Written) -> Grams:
    """Return the products of `_cross` in float64, with what the cast left."""
    a, b = written.factors.a.double(), written.factors.b.double()
    return Grams((a @ members.a.double().mT).cpu(), (b.mT @ members.b.double()).cpu())


def sign_conflict(stack: Stack) -> float | None:
    """Estimate the share of an update's positions where members have opposite signs.

    The sample is 64 rows, drawn by a seed of the module's name, and up to 255 columns at even
    distances. A zero has no sign. Members' weights do not count, their scales' signs do. None for
    a single member.
    """
    if len(stack.members) < 2:
        return None
    updates = _sampled(stack)
    both = (updates.amax(0) > 0) & (updates.amin(0) < 0)  # (64, columns)
    return float(both.double().mean())


def sign_conflicts(stack: Stack) -> Tensor:
    """Estimate the share of positions where two members have opposite signs, (T, T) float64.

    On the positions of `sign_conflict`.
    """
    updates = _sampled(stack).flatten(1)  # (T, positions)
    above, below = (updates > 0).double(), (updates < 0).double()
    opposite = above @ below.mT
    return (opposite + opposite.mT) / updates.shape[1]


def _sampled(stack: Stack) -> Tensor:
    """Return the members' updates at the positions on which signs are compared, but for sizes."""
    d_out, d_in = len(stack.members[0].b), stack.members[0].a.shape[1]
    step = max(1, d_in // _COLUMNS)
    rows, first = _positions(stack.module, d_out, step)
    members = Members.of(stack.members)
    a, b = members.a[:, first::step].contiguous(), members.b[rows]  # one copy for all members
    # Only signs are compared, so a scale is reduced to its sign: no product over- or underflows.
    ranks = list(members.ranks)
    parts = zip(members, torch.split(a, ranks), torch.split(b, ranks, dim=1), strict=True)
    return torch.stack([math.copysign(1.0, f.scale) * columns @ x for f, x, columns in parts])


@lru_cache(maxsize=1024)  # a worker merges the same modules again and again
def _positions(module: str, d_out: int, step: int) -> tuple[Tensor, int]:
    """Return the rows on which signs are compared, and the first column of every `step`."""
    generator = generator_for(0, module)
    rows = torch.rand(d_out, generator=generator).topk(min(_ROWS, d_out)).indices
    return rows, int(torch.randint(step, (1,), generator=generator))


def add_up(measures: Sequence[Measure]) -> Measure:
    """Return the measure of a whole adapter, its modules taken as one long vector.

    Energy is Σ |result|² / Σ |what was approximated|² over modules that have one; the sign conflict
    is over all positions of modules with at least two members.
    """
    # fsum: hundreds of modules differ in size by orders of magnitude, and the total must not depend
    # on the order in which threads finished them.
    present = sorted({i for m in measures for i in m.dots})
    return Measure(
        rank=max(m.rank for m in measures),
        entries=sum(m.entries for m in measures),
        square=math.fsum(m.square for m in measures),
        dots={i: math.fsum(m.dots.get(i, 0.0) for m in measures) for i in present},
        squares={i: math.fsum(m.squares.get(i, 0.0) for m in measures) for i in present},
        factor_norm=max(m.factor_norm for m in measures),
        energy=_overall_energy(measures),
        conflict=_overall_conflict(measures),
    )


def _overall_energy(measures: Sequence[Measure]) -> float | None:
    known = [m for m in measures if m.energy is not None]
    if not known:
        return None
    exact = math.fsum(m.square / m.energy for m in known if m.energy)
    return math.fsum(m.square for m in known) / exact if exact > 0.0 else 1.0


def _overall_conflict(measures: Sequence[Measure]) -> float | None:
    known = [(m.conflict, m.entries) for m in measures if m.conflict is not None]
    total = sum(entries for _, entries in known)
    return sum(conflict * entries for conflict, entries in known) / total if known else None
