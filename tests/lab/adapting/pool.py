"""The pool: the demo's adapters and the same tasks trained from other seeds, 24 in all.

Covered: who is in it, and who is relevant to a task: who shares a skill with it.
Not covered: training them (`tests/lab/merging/adapters.py`), choosing by examples
(`merge/adaptive/selection.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from merge.adaptive.pool import PoolMember
from merge.peft_format import digest_folder
from tests.lab.language import TASKS
from tests.lab.merging.adapters import ADAPTER_SEEDS, adapter_folder

# What the adapters of a task do, in skill words; `tref` is not a skill of the base.
SKILLS_OF: dict[str, frozenset[str]] = {
    "zorp": frozenset({"reverse", "upper"}),
    "blim": frozenset({"reverse", "dash"}),
    "frob": frozenset({"rotate", "next"}),
    "glix": frozenset({"swap", "wrap"}),
    "dwen": frozenset({"next", "dots"}),
    "plov": frozenset({"drop", "stars", "bang"}),
    "krun": frozenset({"sort", "stars", "wrap"}),
    "tref": frozenset(),
}


class Skilled(Protocol):
    """A task of which it is known what skills are in it."""

    @property
    def skills(self) -> frozenset[str]:
        """Every skill in it."""
        ...


@dataclass(frozen=True, slots=True)
class Pool:
    """Adapters with the skills that each one has."""

    adapters: Sequence[PoolMember]
    skills: Sequence[frozenset[str]]  # one for each

    def everyone(self, _task: Skilled) -> list[PoolMember]:
        """Return all of them."""
        return list(self.adapters)

    def relevant(self, task: Skilled) -> list[PoolMember]:
        """Return those that share a skill with the task."""
        return [one for one, has in self._pairs() if has & task.skills]

    def irrelevant(self, task: Skilled) -> list[PoolMember]:
        """Return those that share none."""
        return [one for one, has in self._pairs() if not has & task.skills]

    def _pairs(self) -> list[tuple[PoolMember, frozenset[str]]]:
        return list(zip(self.adapters, self.skills, strict=True))


def open_pool(build: Path) -> Pool:
    """Return the pool of trained adapters. Raises OSError: one was not trained."""
    places = [(seed, task) for seed in ADAPTER_SEEDS for task in TASKS]
    folders = [adapter_folder(build, seed, task) for seed, task in places]
    return Pool(
        [
            PoolMember(f"{task}@{seed}", digest_folder(folder), folder)
            for (seed, task), folder in zip(places, folders, strict=True)
        ],
        [SKILLS_OF[task] for _, task in places],
    )
