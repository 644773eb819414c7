"""Which merges of the skills are measured: rows, random subsets, and one adapter at fewer ranks.

A round has one random subset of each size from 2 to 8; all eight are one subset, in the first round
only. A row is a method with options; rows that differ from another one by a factor alone are
measured at scale 1, since they are the same at every other scale.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from merge.methods import METHODS
from tests.lab.merging.cells import MODES
from tests.lab.skills import SKILLS
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.skill import Skill
from tests.lab.skills.train import Plan

SIZES = tuple(range(2, len(SKILLS) + 1))
ROUNDS = 2
RANK = Plan().rank  # of every adapter
PRUNED = (4, 2, 1)  # ranks to which single adapters are brought
AS_PUBLISHED = ("1",)
BASELINE = "sum (cat)"  # what paired differences are to
LEGO = "lego, k=8"
DEFAULT = "actmat, ridge 0.01"  # what `auto()` merges by


@dataclass(frozen=True, slots=True)
class Row:
    """A method with options, under the name that tables give it."""

    label: str
    method: str
    options: Mapping[str, object] = field(default_factory=dict)
    modes: Sequence[str] = MODES


# Full first: a stopped run has the rows that matter.
MERGES = (
    Row(BASELINE, "cat"),
    Row("average", "average", modes=AS_PUBLISHED),
    Row("linear, rank 8", "linear", {"rank": RANK}),
    Row(LEGO, "lego", {"rank": RANK}),
    Row("tsv", "tsv"),
    Row("pico", "pico"),
    Row("actmat", "actmat"),
    Row("ties", "ties"),
    Row("iso_c", "iso_c"),
    Row("ctm", "ctm"),
    Row("dare_linear", "dare_linear"),
    Row("model_stock", "model_stock"),
    Row("actmat, ridge 0.01", "actmat", {"ridge": 0.01}),
    Row("lego, k=8, canonical balanced", "lego",
        {"rank": RANK, "canonical": True, "balance": True}),
    Row("lego, k=16", "lego", {"rank": 2 * RANK}),
    # LEGO's switches: without clusters it is a sum, and output reweighting is a factor.
    Row("lego, k=8, no parameter reweighting", "lego",
        {"rank": RANK, "parameter_reweighting": False}),
    Row("lego, every unit a cluster", "lego", {"rank": RANK * len(SKILLS)}, AS_PUBLISHED),
    Row("lego, k=16, no output reweighting", "lego",
        {"rank": 2 * RANK, "output_reweighting": False}, AS_PUBLISHED),
)  # fmt: skip
PRUNINGS = (
    Row("compress (SVD)", "compress"),
    Row("lego", "lego"),
)


class Wanted(NamedTuple):
    """One cell: what is merged, and how."""

    row: Row
    skills: tuple[str, ...]
    seed: int = 0  # of what draws at random
    rank: int | None = None  # of a pruned adapter

    @property
    def options(self) -> dict[str, object]:
        """The row's options, with the seed and the rank."""
        options = dict(self.row.options)
        if self.rank is not None:
            options["rank"] = self.rank
        if "seed" in METHODS[self.row.method].parameters:
            options["seed"] = self.seed
        return options

    @property
    def tasks(self) -> list[Skill]:
        """The tasks of two skills whose parts are both merged."""
        return [task for task in COMPOSED.values() if set(task.parts) <= set(self.skills)]


def subset(number: int, size: int) -> tuple[str, ...]:
    """The random subset of a round, in the order of SKILLS: one set, one recipe."""
    chosen = Random(f"subset/{number}/{size}").sample(list(SKILLS), size)
    return tuple(name for name in SKILLS if name in chosen)


def merges(rounds: int = ROUNDS) -> Iterator[Wanted]:
    """Merges, round by round and row by row, so that a stopped run can be compared."""
    for number in range(rounds):
        sizes = SIZES if number == 0 else SIZES[:-1]
        for row in MERGES:
            for size in sizes:
                yield Wanted(row, subset(number, size), number)


def prunings() -> Iterator[Wanted]:
    """Every adapter alone at fewer ranks than it was trained with."""
    for row in PRUNINGS:
        for rank in PRUNED:
            for name in SKILLS:
                yield Wanted(row, (name,), rank=rank)
