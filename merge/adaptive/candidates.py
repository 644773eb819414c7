"""Candidates: what a job compares, each with its scores and how it can be served.

Covered: the values and their JSON form, from which a stopped job resumes. Not covered: making them
(`controls`, `methods`) and judging them (`verdict`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from merge.adaptive.scoring.scored import Scored, figures
from merge.peft_format.atomic_files import write_atomic

OUTCOME = "outcome.json"  # in a job's folder: its outcome
# Beside it, under the name that folders have had so far: the examples that measure candidates.
TESTS = "validation.json"
_MEASURED = "measured.json"  # and what each candidate answers to them

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
        scored: what was learned, unfolded, on examples that no training and no choice saw.
        serving: how it is served.
        folded: the same of the files that would be served, in this process; None where nothing
            was folded.
        refit: where the folds' trainings were measured, the scores of the one that is served, on
            the same examples, from which it has learned: only good to compare with the engine's.
        choice_loss: on the examples that choose among sizes, nats per answer token.
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
    refit: Scored | None = None
    choice_loss: float | None = None
    energy: float | None = None
    best_step: int | None = None
    curve: tuple[tuple[int, float, float | None], ...] = ()
    members: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def judged(self) -> Scored:
        """What a verdict judges: the files that would be served, where there are any."""
        return self.folded or self.scored

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; `from_json` is the inverse."""
        return self._plain() | {
            "scored": self.scored.to_json(),
            "folded": None if self.folded is None else self.folded.to_json(),
            "refit": None if self.refit is None else self.refit.to_json(),
            "choice_loss": self.choice_loss,
            "serving": self.serving.to_json(),
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Return the candidate that `to_json` wrote down."""
        folded, refit = raw["folded"], raw["refit"]
        return cls(
            **{
                **raw,
                "scored": Scored.from_json(raw["scored"]),
                "serving": Serving(**raw["serving"]),
                "folded": None if folded is None else Scored.from_json(folded),
                "refit": None if refit is None else Scored.from_json(refit),
                "curve": tuple((step, loss, valid) for step, loss, valid in raw["curve"]),
                "members": tuple(raw["members"]),
            }
        )

    def reported(self, *, seed: int) -> dict[str, Any]:
        """Return its part of a report as JSON values, figures with intervals."""

        def of(scored: Scored | None) -> dict[str, Any] | None:
            return None if scored is None else figures(scored, seed=seed).to_json()

        return self._plain() | {
            "figures": of(self.scored), "folded": of(self.folded), "refit": of(self.refit),
            "serve": self.serving.to_json(),
        }  # fmt: skip

    def _plain(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "energy": self.energy,
            "best_step": self.best_step, "curve": [list(point) for point in self.curve],
            "members": list(self.members), "detail": self.detail, "seconds": self.seconds,
        }  # fmt: skip

    def taking(self, seconds: float) -> Self:
        """Return the same candidate with the seconds that it took."""
        return replace(self, seconds=round(seconds, 3))


def dump_measured(folder: Path, candidates: Sequence[Candidate], questions: Sequence[int]) -> None:
    """Write the candidates of a job, and the number of each example's question, into its folder.

    Raises:
        OSError: the disk is full or gone.
    """
    made = [candidate.to_json() for candidate in candidates]
    write_atomic(folder / _MEASURED, json.dumps({"candidates": made, "questions": [*questions]}))


def load_measured(folder: Path) -> tuple[tuple[Candidate, ...], tuple[int, ...]] | None:
    """Return what `dump_measured` wrote; None for a job of a release that wrote nothing."""
    path = folder / _MEASURED
    if not path.exists():
        return None
    read = json.loads(path.read_text())
    return tuple(map(Candidate.from_json, read["candidates"])), tuple(read["questions"])
