"""Readers of the deployed files' formats, as far as these files use them.

Covered: container files' instructions; compose's interpolation of `${NAME}` with `:-`, `:+` and
`:?`, nested once; environment files. Not covered: heredocs, profiles, includes.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-+?])((?:[^{}]|\$\{[^{}]*\})*))?\}")
_SHOWN = re.compile(r"#?([A-Z][A-Z0-9_]*)=(.*)")


class VariableUnset(Exception):
    """A variable that compose requires has no value."""


def deployed_files() -> list[Path]:
    """Return the files of the deployment folder, without subfolders."""
    return sorted(path for path in DEPLOY.iterdir() if path.is_file() and path.name != ".env")


def instructions(containerfile: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments) in order, continued lines joined and comments dropped."""
    lines = [line for line in containerfile.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    parts = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(instruction, arguments) for instruction, arguments in parts]


def arguments_of(containerfile: Path, instruction: str) -> list[str]:
    """Return the arguments of every occurrence of `instruction`."""
    return [arguments for name, arguments in instructions(containerfile) if name == instruction]


def image_environment(containerfile: Path) -> dict[str, str]:
    """Return what the image's ENV instructions set."""
    pairs = shlex.split(" ".join(arguments_of(containerfile, "ENV")))
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the compose file with `variables` substituted.

    Raises:
        VariableUnset: a required variable is not among them.
    """
    parsed: dict[str, Any] = _interpolated(
        yaml.safe_load((DEPLOY / "compose.yaml").read_text()), variables
    )
    return parsed


def environment_file(path: Path) -> dict[str, str]:
    """Return every NAME=value of an environment file, including those in comments."""
    shown = (_SHOWN.fullmatch(line) for line in path.read_text().splitlines())
    return {match[1]: match[2].strip('"') for match in shown if match}


def unit_settings(path: Path) -> dict[str, list[str]]:
    """Return a systemd unit's values by name; sections are ignored, repeated names are kept."""
    values: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(name, []).append(value)
    return values


def _interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    match node:
        case str():
            return _interpolate(node, variables)
        case list():
            return [_interpolated(child, variables) for child in node]
        case dict():
            return {key: _interpolated(child, variables) for key, child in node.items()}
        case _:
            return node


def _interpolate(text: str, variables: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, operator, operand = match.groups()
        given = variables.get(name, "")
        if operator == "?" and not given:
            raise VariableUnset(f"{name}: {operand}")
        if operator == "+":
            return _interpolate(operand, variables) if given else ""
        return given or (_interpolate(operand, variables) if operator == "-" else "")

    return _VARIABLE.sub(value, text)
