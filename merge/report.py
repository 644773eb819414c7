"""The report of a merge: JSON beside the artifact, and one line for people.

Covered: the format of the figures. Not covered: how they are computed (`measure`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from merge.measure import Measure


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a finished merge."""

    method: str
    ingredients: tuple[str, ...]  # digests, in the recipe's order
    modules: Mapping[str, Measure]
    overall: Measure  # over all modules as one vector; its rank is the largest
    scale: float  # the factor on the result: the option's, or the matched one
    seconds: Mapping[str, float]  # by stage, summed over processes
    notes: tuple[str, ...] = ()  # sentences for the user that no figure shows

    def to_json(self) -> str:
        """Return the report as JSON: figures by module and overall, cosines in recipe order."""
        document: dict[str, object] = {
            "method": self.method,
            "ingredients": list(self.ingredients),
            "scale": self.scale,
            "overall": self._figures(self.overall),
            "modules": {name: self._figures(m) for name, m in self.modules.items()},
            "seconds": {stage: round(value, 6) for stage, value in self.seconds.items()},
        }
        if self.notes:
            document["notes"] = list(self.notes)
        return json.dumps(document)  # with an indent Python writes it, in sixty times the time

    def summary(self) -> str:
        """Return one line for people."""
        cosines = [self.overall.cosine(i) for i in range(len(self.ingredients))]
        shown = " ".join("-" if cosine is None else f"{cosine:.2f}" for cosine in cosines)
        parts = [
            f"{self.method} of {len(self.ingredients)}: {len(self.modules)} modules",
            f"rank {self.overall.rank}",
            f"norm {self.overall.norm:.3g}"
            + (f" (scaled by {self.scale:.3g})" if self.scale != 1.0 else ""),
            f"cosine to ingredients {shown}",
            _share("energy kept", self.overall.energy),
            _share("signs in conflict", self.overall.conflict),
            f"{sum(self.seconds.values()):.2f} s of work",
        ]
        return ", ".join(part for part in parts if part)

    def _figures(self, m: Measure) -> dict[str, object]:
        return {
            "rank": m.rank,
            "norm": m.norm,
            "cosines": [m.cosine(i) for i in range(len(self.ingredients))],
            "energy": m.energy,
            "sign_conflict": m.conflict,
        }


def _share(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {value:.1%}"
