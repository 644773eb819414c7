"""A file with one measured cell on each line, so that a stopped run goes on.

Covered: reading what an interrupted run left, adding to it. Not covered: what a cell is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar


class Line(Protocol):
    """What can be kept: a value with a key, and its line."""

    @property
    def key(self) -> str:
        """What identifies its numbers: equal keys, equal numbers."""
        ...

    def to_line(self) -> str:
        """The value as text without a line break."""
        ...


C = TypeVar("C", bound=Line)


class CellFile(Generic[C]):
    """The cells measured so far, in memory and on disk."""

    def __init__(self, path: Path, read: Callable[[str], C]) -> None:
        """Read what is there; a last line without an end was being written and is dropped."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole)
        self._cells = {cell.key: cell for cell in map(read, whole.splitlines())}

    def get(self, key: str) -> C | None:
        """The cell of that key, if it was measured."""
        return self._cells.get(key)

    def add(self, cell: C) -> None:
        """Keep a cell, on disk before this returns."""
        with self.path.open("a") as file:
            file.write(cell.to_line() + "\n")
        self._cells[cell.key] = cell
