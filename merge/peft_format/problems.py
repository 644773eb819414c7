"""Problems of an adapter folder: where each is, what was expected and what was found."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

LFS_MARK = b"version https://git-lfs"
LFS_POINTER = "a Git LFS pointer, which stands for the file"
FETCH_LFS = "run `git lfs pull` in the adapter's repository"
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 100


def brief(value: object) -> str:
    """Return a value from an untrusted file as text: short, however long or deep it is."""
    return _REPR.repr(value)[:120]


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: where it is, what was expected there and what was found instead."""

    code: str  # stable, for example "A005 header-invalid"
    file: str  # file name inside the folder
    expected: str
    found: str
    tensor: str | None = None

    def __str__(self) -> str:
        where = f"{self.file}: {self.tensor}" if self.tensor else self.file
        return f"{self.code}: {where}: expected {self.expected}, found {self.found}"


def one_per_cause(problems: Iterable[Problem]) -> list[Problem]:
    """Return one problem for all tensors that share a code, with their number, in order.

    A classification head of a hundred tensors is one cause, and so is a wrong base.
    """
    causes: dict[object, list[Problem]] = {}
    for problem in problems:
        cause = (problem.code, problem.file) if problem.tensor else problem
        causes.setdefault(cause, []).append(problem)
    return [
        first if not more else replace(first, found=f"{first.found} ({len(more) + 1} such in all)")
        for first, *more in causes.values()
    ]


class FormatError(ValueError):
    """The folder is not a LoRA adapter that weft can read; `problems` holds every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["FormatError"], tuple[tuple[Problem, ...]]]:
        """Pickle the problems: the default would keep the message alone."""
        return FormatError, (self.problems,)
