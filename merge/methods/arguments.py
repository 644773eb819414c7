"""What a function's docstring says of its arguments.

Covered: the section `Args:` in Google's style, on which a method's options are described to users.
Not covered: the other sections, and whether every argument is described (a test holds it).
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

_ARGUMENT = re.compile(r"    (\w+): (.*)")


def documented_arguments(function: Callable[..., Any]) -> dict[str, str]:
    """Return the description of each argument, on one line; {} without a section `Args:`."""
    _, found, section = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    lines: dict[str, list[str]] = {}
    current: list[str] = []
    for line in section.splitlines() if found else ():
        if not line.startswith("    "):
            break
        argument = _ARGUMENT.fullmatch(line)
        if argument is not None:
            current = lines[argument[1]] = [argument[2]]
        else:
            current.append(line.strip())
    return {name: " ".join(parts) for name, parts in lines.items()}
