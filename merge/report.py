"""What a merge did, in numbers: norms, cosines to the ingredients, energy kept, seconds.

Everything comes from the trace formula on factors; no update is ever dense. Not covered: quality,
which only examples can tell.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merge.factors import Factors
from merge.linalg import inner


@dataclass(frozen=True, slots=True)
class Measure:
    """Inner products of one module's result with itself and its ingredients' updates.

    Keys of `dots` and `squares` are positions in the recipe; an absent ingredient has none. They
    add up over modules, which is how an adapter's overall figures are made.
    """

    rank: int
    square: float  # |result|²
    dots: Mapping[int, float]  # ⟨result, ingredient⟩
    squares: Mapping[int, float]  # |ingredient|²
    energy: float | None

    @property
    def norm(self) -> float:
        """Frobenius norm of the result's update; not finite where the result is not."""
        return _root(self.square)

    def cosine(self, ingredient: int) -> float | None:
        """Cosine to an ingredient's update; None where it is absent or either is zero."""
        if ingredient not in self.dots:
            return None
        lengths = _root(self.square) * _root(self.squares[ingredient])
        return self.dots[ingredient] / lengths if lengths > 0.0 else None


def measure(result: Factors, members: Mapping[int, Factors], energy: float | None) -> Measure:
    """Measure one module: `members` by position in the recipe, unweighted."""
    return Measure(
        rank=result.rank,
        square=inner(result, result),
        dots={i: inner(result, member) for i, member in members.items()},
        squares={i: inner(member, member) for i, member in members.items()},
        energy=energy,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a finished merge."""

    method: str
    ingredients: tuple[str, ...]  # digests, in the recipe's order
    modules: Mapping[str, Measure]
    overall: Measure  # over all modules as one vector; its rank is the largest
    seconds: Mapping[str, float]  # read, merge, write: summed over worker threads

    def to_json(self) -> str:
        """Return the report as JSON: figures by module and overall, cosines in recipe order."""
        document = {
            "method": self.method,
            "ingredients": list(self.ingredients),
            "overall": self._figures(self.overall),
            "modules": {name: self._figures(m) for name, m in self.modules.items()},
            "seconds": {stage: round(value, 6) for stage, value in self.seconds.items()},
        }
        return json.dumps(document, indent=1)

    def summary(self) -> str:
        """Return one line for people."""
        cosines = [self.overall.cosine(i) for i in range(len(self.ingredients))]
        said = " ".join("-" if cosine is None else f"{cosine:.2f}" for cosine in cosines)
        kept = "" if self.overall.energy is None else f", energy kept {self.overall.energy:.1%}"
        return (
            f"{self.method} of {len(self.ingredients)}: {len(self.modules)} modules, "
            f"rank {self.overall.rank}, norm {self.overall.norm:.3g}, "
            f"cosine to ingredients {said}{kept}, {sum(self.seconds.values()):.2f} s of work"
        )

    def _figures(self, m: Measure) -> dict[str, object]:
        return {
            "rank": m.rank,
            "norm": m.norm,
            "cosines": [m.cosine(i) for i in range(len(self.ingredients))],
            "energy": m.energy,
        }


def add_up(measures: Sequence[Measure], ingredients: int) -> Measure:
    """Return the measure of a whole adapter, its modules taken as one long vector.

    Energy is Σ |result|² / Σ |what was approximated|², over modules whose method tells it.
    """
    present = [i for i in range(ingredients) if any(i in m.dots for m in measures)]
    known = [m for m in measures if m.energy is not None]
    exact = math.fsum(m.square / m.energy for m in known if m.energy)
    kept = math.fsum(m.square for m in known)
    return Measure(
        rank=max(m.rank for m in measures),
        square=sum(m.square for m in measures),
        dots={i: sum(m.dots.get(i, 0.0) for m in measures) for i in present},
        squares={i: sum(m.squares.get(i, 0.0) for m in measures) for i in present},
        energy=None if not known else kept / exact if exact > 0.0 else 1.0,
    )


def _root(square: float) -> float:
    # Rounding can leave the square of a vanishing update a hair below zero; NaN must stay NaN.
    return math.sqrt(square) if not square < 0.0 else 0.0
