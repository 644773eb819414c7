"""Candidates: what a job compares, each with its scores and how it can be served.

Covered: the values and their JSON form, from which a stopped job resumes. Not covered: making them
(`controls`, `methods`) and judging them (`verdict`).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from merge.adaptive.scoring.scorer import Scored, figures

OUTCOME = "outcome.json"  # in a job's folder: its outcome
VALIDATION = "validation.json"  # beside it: the examples that candidates are measured on

Kind = Literal["base", "adapter", "recipe", "nothing"]


@dataclass(frozen=True, slots=True)
class Serving:
    """How a candidate is served; folders are relative to the job's.

    Attributes:
        kind: the base itself; an adapter that the job made; a recipe; nothing that can be served.
        folder: of the adapter.
        recipe: canonical text.
        adapters: by digest, folders of adapters that the job made and the recipe names.
        reason: why nothing.
    """

    kind: Kind
    folder: str | None = None
    recipe: str | None = None
    adapters: dict[str, str] = field(default_factory=dict)
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what its kind has as JSON values."""
        match self.kind:
            case "adapter":
                return {"kind": self.kind, "folder": self.folder}
            case "recipe":
                return {"kind": self.kind, "recipe": self.recipe, "adapters": self.adapters}
            case "nothing":
                return {"kind": self.kind, "reason": self.reason}
            case "base":
                return {"kind": self.kind}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One measured candidate.

    Attributes:
        name: [a-z][a-z0-9_]*, unique in the job.
        title: for people.
        scored: unfolded, on the validation examples.
        serving: how it is served.
        folded: the same of the files that would be served, in this process; None where nothing
            was folded.
        energy: of the fold, |result|² / |exact sum|²; None where the fold is exact.
        best_step: whose state was kept, of a training.
        curve: (step, training loss, validation loss or None) of a training, in order.
        members: references of the adapters in it.
        detail: numbers of the method, such as the scale that it found.
        seconds: of work.
    """

    name: str
    title: str
    scored: Scored
    serving: Serving
    folded: Scored | None = None
    energy: float | None = None
    best_step: int | None = None
    curve: tuple[tuple[int, float, float | None], ...] = ()
    members: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; `from_json` is the inverse."""
        folded = None if self.folded is None else self.folded.to_json()
        return self._plain() | {
            "scored": self.scored.to_json(),
            "folded": folded,
            "serving": self.serving.to_json(),
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Return the candidate that `to_json` wrote down."""
        folded = raw["folded"]
        return cls(
            **{
                **raw,
                "scored": Scored.from_json(raw["scored"]),
                "serving": Serving(**raw["serving"]),
                "folded": None if folded is None else Scored.from_json(folded),
                "curve": tuple((step, loss, valid) for step, loss, valid in raw["curve"]),
                "members": tuple(raw["members"]),
            }
        )

    def reported(self, *, seed: int) -> dict[str, Any]:
        """Return its part of a report as JSON values, figures with intervals."""
        folded = None if self.folded is None else figures(self.folded, seed=seed).to_json()
        return self._plain() | {
            "figures": figures(self.scored, seed=seed).to_json(),
            "folded": folded,
            "serve": self.serving.to_json(),
        }

    def _plain(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "energy": self.energy,
            "best_step": self.best_step, "curve": [list(point) for point in self.curve],
            "members": list(self.members), "detail": self.detail, "seconds": self.seconds,
        }  # fmt: skip

    def taking(self, seconds: float) -> Self:
        """Return the same candidate with the seconds that it took."""
        return replace(self, seconds=round(seconds, 3))
