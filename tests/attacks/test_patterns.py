"""Every regular expression of the source, against strings that are made to be slow."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.attacks.slow_strings import slowest
from tests.test_architecture import SOURCES, imports, name_of, nodes

# Calls whose pattern is made while the program runs: what they can be, or why none is tried.
COMPUTED: dict[tuple[str, str], tuple[str, ...]] = {
    # PEFT's own rule; `_SAFE_PATTERN` bounds the keys, tests/merge/test_format_config.py their time
    ("merge/peft_format/config.py", r'rf"(.*\.)?({key})$"'): (),
    ("merge/peft_format/config.py", "name"): (),  # compiled only, after the same bound
    ("merge/peft_format/folder.py", "DIGEST"): ("[0-9a-f]{64}",),
    ("server/jobs/create.py", 'rf"{own}_k[1-9][0-9]*"'): (r"recycle_k[1-9][0-9]*",),
    ("server/engine/startup_log.py", "pattern"): (),  # the keys of _STAGES, below
}
TABLES = {"server/engine/startup_log.py": "_STAGES"}


class Use(NamedTuple):
    """A pattern and how it is applied."""

    file: str
    pattern: str
    flags: int
    method: str


def _uses(path: Path) -> Iterator[Use]:
    file = name_of(path)
    named = {id(value): name for name, value in _assigned(path)}
    for node in nodes(path):
        if not (isinstance(node, ast.Call) and _is_re(node.func)):
            continue
        method, pattern = node.func.attr, node.args[0]  # type: ignore[attr-defined]  # see _is_re
        if method == "escape":
            continue
        if id(node) in named:  # a constant of the module
            value = getattr(_module(file), named[id(node)])
            for how in _applied(path, named[id(node)]):
                yield Use(file, value.pattern, value.flags, how)
        elif isinstance(pattern, ast.Constant):
            assert method != "compile", f"{file}:{node.lineno}: give the pattern a name"
            yield Use(file, str(pattern.value), 0, method)
        else:
            key = file, str(ast.get_source_segment(path.read_text(), pattern))
            assert key in COMPUTED, f"{file}:{node.lineno}: say in COMPUTED what it can be"
            for text in COMPUTED[key]:
                yield Use(file, text, 0, method)


def _is_re(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "re"


def _module(file: str) -> object:
    return import_module(file.removesuffix(".py").replace("/", "."))


def _assigned(path: Path) -> Iterator[tuple[str, ast.expr]]:
    for node in _body(path):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _body(path: Path) -> list[ast.stmt]:
    module = nodes(path)[0]
    assert isinstance(module, ast.Module)
    return module.body


def _applied(path: Path, name: str) -> set[str]:
    """Return the methods that are called on a pattern; handed on, it is matched at a position."""
    methods = {
        node.attr
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == name
    }
    return (methods - {"pattern"}) or {"match"}


def _all() -> list[Use]:
    uses = {use for path in SOURCES if "re" in imports(path) for use in _uses(path)}
    for file, table in TABLES.items():
        uses |= {Use(file, text, 0, "search") for text in getattr(_module(file), table)}
    return sorted(use for use in uses if not use.file.startswith("migrations/"))


@pytest.mark.parametrize("use", _all(), ids=lambda use: f"{use.file}-{use.method}")
def test_every_regular_expression_takes_linear_time(use: Use) -> None:
    """No text makes a regular expression of the source take more than linear time."""
    assert slowest(re.compile(use.pattern, use.flags), use.method) is None


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(a+)+$", "search"),
        (r"(?:a|a)*$", "match"),
        (r"^licen[sc]e:[ \t]*['\"]?([A-Za-z0-9._ -]{1,80}?)['\"]?[ \t]*$", "search"),
        (r"(?:-unsloth|-bnb|-[48]bit)+$", "sub"),
        (r"\s+$", "sub"),
        (r"init engine .* took", "search"),
    ],
)
def test_the_strings_are_slow_for_patterns_that_can_be(pattern: str, method: str) -> None:
    """The strings find patterns of exponential and of quadratic time."""
    assert slowest(re.compile(pattern), method) is not None


def test_no_source_imports_a_pattern_function_by_itself() -> None:
    """Patterns are compiled as `re.…`, where this test finds them."""
    for path in SOURCES:
        for node in nodes(path):
            assert not (isinstance(node, ast.ImportFrom) and node.module in ("re", "regex"))
            assert not (
                isinstance(node, ast.Import)
                and any(item.name == "re" and item.asname for item in node.names)
            )
