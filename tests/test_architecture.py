"""Who may know whom, and other rules of the house that a machine can hold."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("merge", "registry", "server", "migrations")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# package -> what it may never import (a prefix of the dotted name)
FORBIDDEN = {
    "merge": ("sqlalchemy", "alembic", "fastapi", "starlette", "registry", "server", "tests"),
    "registry": ("torch", "transformers", "fastapi", "starlette", "server", "tests"),
    "server": ("tests",),
    "migrations": ("torch", "fastapi", "server", "merge", "tests"),
}
VLLM_FILES = {"server/engine/plugin.py", "server/engine/cpu_kernels.py"}
LINES = 400
# All statements stand in the queries of a room, but for the one that adds rows.
_QUERIES = r"registry/(storage/insert|\w+/(\w+_)?queries)\.py"


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def name_of(path: Path) -> str:
    """Return a file's place in the project."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_import_rules(path: Path) -> None:
    """merge knows no SQL, no HTTP and no registry; registry knows no torch and no HTTP; nobody
    imports the server or the tests."""
    forbidden = FORBIDDEN[path.relative_to(ROOT).parts[0]]

    found = [name for name in imports(path) if name.partition(".")[0] in forbidden]

    assert [] == found


def test_registry_knows_merge_by_its_format_only() -> None:
    """Of merge the registry imports `merge.peft_format` alone."""
    found = {
        name
        for path in (ROOT / "registry").rglob("*.py")
        for name in imports(path)
        if name.partition(".")[0] == "merge" and not name.startswith("merge.peft_format")
    }

    assert set() == found


def test_format_needs_numpy_alone() -> None:
    """`merge.peft_format` imports the standard library, numpy and itself."""
    found = {
        name.partition(".")[0]
        for path in (ROOT / "merge" / "peft_format").rglob("*.py")
        for name in imports(path)
    }

    assert not found & {"torch", "safetensors", "transformers", "peft", "pydantic"}


def test_vllm_is_imported_in_two_files() -> None:
    """vLLM is imported by the plug-in and the kernels alone, so a release is a small change."""
    found = {
        name_of(path)
        for path in SOURCES
        for name in imports(path)
        if name.partition(".")[0] == "vllm"
    }

    assert VLLM_FILES == found


def test_one_place_commits() -> None:
    """Nothing but `registry/storage/database.py` commits."""
    found = [name_of(path) for path in SOURCES if re.search(r"\.commit\(", path.read_text())]

    assert set(found) <= {"registry/storage/database.py"}


def test_statements_are_in_queries() -> None:
    """SQL statements are built in `registry/versions/queries.py` and its kin by subject alone."""
    builders = {"select", "insert", "update", "delete", "text"}
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy"):
                named = {alias.name for alias in node.names}
                if named & builders:
                    found.add(name_of(path))

    other = {"registry/storage/database.py", "migrations/env.py"}
    assert set() == {name for name in found if not re.fullmatch(_QUERIES, name)} - other


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)
def test_files_are_small(path: Path) -> None:
    """No file is longer than a reader's patience."""
    assert len(path.read_text().splitlines()) <= LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_randomness_is_an_argument(path: Path) -> None:
    """Random numbers come from generators with a seed, never from global state."""
    text = path.read_text()
    global_state = r"^import random|^from random|torch\.manual_seed|np\.random\.seed|RandomState"

    assert [] == re.findall(global_state, text, re.MULTILINE)


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_every_test_is_a_sentence(path: Path) -> None:
    """Each test has a docstring that says what must hold."""
    missing = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert [] == missing


def test_top_level() -> None:
    """The top level holds what it was meant to hold and nothing else."""
    expected = {
        "pyproject.toml", "registry", "server", "merge", "migrations", "tests", "deploy",
        "README.md", "Makefile", "LICENSE",
    }  # fmt: skip
    ignored = {"build", "dist", "weft-home", "weft.egg-info"}

    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and path.name not in ignored
    }

    extra = {
        name
        for name in found - expected
        if not re.fullmatch(r"[A-Z_]+\.md|constraints-\w+\.txt", name)
    }
    assert expected <= found
    assert set() == extra - {"__pycache__"}
