"""What can be wrong with an adapter folder, said so that its owner can mend it."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100


def brief(value: object) -> str:
    """Return a value from a stranger's file as text: short, however long or deep it is."""
    return _REPR.repr(value)[:120]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: where it is, what was expected there and what was found instead."""

    code: str  # stable, for example "A005 header-invalid"
    file: str  # file name inside the folder
    expected: str
    found: str
    tensor: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.tensor}" if self.tensor else self.file
        return f"{self.code}: {where}: expected {self.expected}, found {self.found}"


class FormatError(ValueError):
    """The folder is not a LoRA adapter that weft can read; `problems` names every reason found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["FormatError"], tuple[tuple[Problem, ...]]]:
        """Travel between processes with the problems, not with the message alone."""
        return FormatError, (self.problems,)
