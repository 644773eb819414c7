"""Count the rooms of a package: `python -m tests.rooms registry merge/adaptive`.

A room is a module or a folder directly in the package. An arrow goes from a room to one that it
imports. The level of a room is one more than the highest level among the rooms it imports, so a
package without circles has as many levels as its longest chain of imports has rooms.
"""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
Arrows = dict[str, set[str]]


def imported_modules(path: Path, root: Path = ROOT) -> set[str]:
    """Return the dotted names of the modules under `root` that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if _is_module(root / name.replace(".", "/"))}


def arrows(package: str, root: Path = ROOT) -> Arrows:
    """Return the rooms of a package, each with the rooms that it imports."""
    prefix = package.replace("/", ".") + "."
    rooms: Arrows = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root / package).parts
        room = parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        targets = rooms.setdefault(room, set())
        for name in imported_modules(path, root):
            if name.startswith(prefix):
                targets.add(name.removeprefix(prefix).partition(".")[0])
    return {room: targets - {room} for room, targets in rooms.items()}


def levels(rooms: Arrows) -> dict[str, int]:
    """Return the level of each room, from 1.

    Raises:
        graphlib.CycleError: rooms import each other in a circle.
    """
    level: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        level[room] = 1 + max((level[target] for target in rooms.get(room, ())), default=0)
    return level


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def table(package: str) -> str:
    """Return the figures of a package, and its rooms from the highest level down."""
    rooms = arrows(package)
    level = levels(rooms)
    count = sum(map(len, rooms.values()))
    title = f"{package}: {len(rooms)} rooms on {max(level.values())} levels, {count} arrows\n"
    return title + "".join(
        f"  {level[room]:2} {room} -> {', '.join(sorted(rooms[room])) or '-'}\n"
        for room in sorted(rooms, key=lambda name: (-level[name], name))
    )


if __name__ == "__main__":
    sys.stdout.writelines(map(table, sys.argv[1:]))
