"""Mutation testing: `python -m tests.mutants FILE …` lists the changes that no test notices.

Each mutant changes one place of a file: a comparison, an operator, a constant, a condition, a
return, a raise. It is written over the file in a copy of the project, where the tests of the file
are run: those that mirror its path, or those that `--tests` names. A mutant that passes them all
is printed; either a test is missing or the mutant behaves as the original does. Tests on PostgreSQL
are left out, since they cost several times as much: `-k ""` runs them too.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from multiprocessing import get_context
from pathlib import Path

import fastapi  # noqa: F401 - imported once, for all forks
import hypothesis  # noqa: F401
import pytest
import sqlalchemy.orm  # noqa: F401
import torch  # noqa: F401

ROOT = Path(__file__).parent.parent
COPIED = ("merge", "registry", "server", "migrations", "tests", "deploy", "pyproject.toml")
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file's text with one change."""

    line: int
    change: str
    text: str


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module. Annotations, docstrings and f-strings are left alone."""
    tree = ast.parse(source)
    skipped = _skipped(tree)
    for at, node in enumerate(ast.walk(tree)):
        if id(node) in skipped:
            continue
        for change, replacement in _replacements(node):
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[at]
            text = ast.unparse(
                ast.fix_missing_locations(_Replace(target, replacement).visit(changed))
            )
            yield Mutant(getattr(node, "lineno", 0), change, text)


class _Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, target: ast.AST, replacement: ast.AST) -> None:
        self._target = target
        self._replacement = replacement

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the replacement for the target, every other node as it is."""
        return self._replacement if node is self._target else self.generic_visit(node)


def _skipped(tree: ast.Module) -> set[int]:
    """Return the ids of nodes whose change says nothing of behaviour."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            roots.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots += [*filter(None, [node.returns]), *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            roots += node.decorator_list
        elif isinstance(node, ast.JoinedStr | ast.Assert) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        ):
            roots.append(node)
    return {id(node) for root in roots for node in ast.walk(root)}


def _replacements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what a node may be replaced by, each with its description."""
    old = "" if isinstance(node, ast.stmt) else ast.unparse(node) if hasattr(node, "lineno") else ""
    match node:
        case ast.Compare(ops=[op, *rest]) if type(op) in _SWAPS:
            new: ast.AST = copy.copy(node)
            vars(new)["ops"] = [_SWAPS[type(op)](), *rest]
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign() if type(node.op) in _SWAPS:
            new = copy.copy(node)
            vars(new)["op"] = _SWAPS[type(node.op)]()
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            new = node.operand
        case ast.Constant(value=bool(value)):
            new = ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            new = ast.Constant(value + 1)
        case ast.If() | ast.IfExp() | ast.While():
            for value in (True, False) if not isinstance(node, ast.While) else (False,):
                fixed = copy.copy(node)
                fixed.test = ast.Constant(value)
                yield f"if {ast.unparse(node.test)} -> if {value}", fixed
            return
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield f"return {ast.unparse(value)} -> return None", ast.Return(ast.Constant(None))
            return
        case ast.Raise():
            yield f"{ast.unparse(node)} -> pass", ast.Pass()
            return
        case _:
            return
    yield f"{old or ast.unparse(node)} -> {ast.unparse(new)}", new


def tests_of(path: str) -> list[str]:
    """Return the test files that mirror a source file: `a/b/c.py` has `tests/a/b/test_c*.py`.

    Raises:
        FileNotFoundError: there is none.
    """
    source = Path(path)
    stem = "test_format_" + source.stem if source.parent.name == "peft_format" else None
    folders = [ROOT / "tests" / source.parent, ROOT / "tests" / source.parent.parent]
    for folder in folders:
        tests = sorted(folder.glob(f"{stem or 'test_' + source.stem}*.py"))
        if tests:
            return [test.relative_to(ROOT).as_posix() for test in tests]
    raise FileNotFoundError(f"no test mirrors {path}: name its tests with --tests")


def _import_libraries(tests: Sequence[str]) -> None:
    """Import what the tests import from outside the project, once for all forks."""
    for test in map(Path, tests):
        for file in test.rglob("*.py") if test.is_dir() else [test]:
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    name = getattr(node, "module", None) or node.names[0].name
                    if name.partition(".")[0] not in COPIED:
                        exec(ast.unparse(node), {})  # noqa: S102 - a line of our own tests


def survives(copied: Path, tests: Sequence[str], seconds: float) -> bool:
    """Run pytest with the arguments `tests` in the copy; return whether all tests pass.

    A run of more than `seconds` counts as a failed one.

    The tests run in a fork of this process, which has imported what is slow to import.
    """
    child = get_context("fork").Process(target=_run_tests, args=(copied, tests))
    child.start()
    child.join(seconds)
    if child.exitcode is None:
        child.kill()
        child.join()
    return child.exitcode == 0


def _run_tests(copied: Path, tests: Sequence[str]) -> None:
    """Run the tests with the copy's modules in place of the project's."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.dont_write_bytecode = True
    for name in [name for name in sys.modules if name.partition(".")[0] in COPIED]:
        del sys.modules[name]
    os.chdir(copied)
    sys.path.insert(0, str(copied))
    # Plain asserts: rewriting them would cost more than most tests do.
    options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider"]
    sys.exit(pytest.main([*options, "-m", "not slow and not engine", *tests]))


def main() -> None:
    """Try the mutants of the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", help="source files, or FILE:LINE for one line")
    parser.add_argument("--tests", nargs="*", help="tests to run in place of the mirroring ones")
    parser.add_argument("-k", default="not postgresql", help="pytest's -k: which of the tests")
    parser.add_argument("--sample", type=int, help="at most this many mutants of a file")
    parser.add_argument("--seconds", type=float, default=120.0, help="for the tests of a mutant")
    asked = parser.parse_args()
    for plugin in entry_points(group="pytest11"):
        plugin.load()  # once, for all forks
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "project"
        for name in COPIED:
            place = ROOT / name
            copy_of = shutil.copytree if place.is_dir() else shutil.copyfile
            copied.mkdir(exist_ok=True)
            copy_of(place, copied / name)
        for place in asked.files:
            file, _, line = place.partition(":")
            mutants = list(mutants_of((ROOT / file).read_text()))
            if line:
                mutants = [mutant for mutant in mutants if mutant.line == int(line)]
            if asked.sample is not None and asked.sample < len(mutants):
                mutants = random.Random(0).sample(mutants, asked.sample)
            tests = asked.tests or tests_of(file)
            _import_libraries(tests)
            _try(file, mutants, copied, ["-k", asked.k, *tests], asked.seconds)


def _try(
    file: str, mutants: Sequence[Mutant], copied: Path, tests: Sequence[str], seconds: float
) -> None:
    """Print which of the mutants of a file survive its tests."""
    if not survives(copied, tests, seconds):
        raise SystemExit(f"{file}: its tests fail without any change: {' '.join(tests)}")
    survivors = 0
    for mutant in sorted(mutants, key=lambda mutant: mutant.line):
        (copied / file).write_text(mutant.text)
        if survives(copied, tests, seconds):
            survivors += 1
            _say(f"{file}:{mutant.line}: survived: {mutant.change}")
    shutil.copyfile(ROOT / file, copied / file)
    _say(f"{file}: {len(mutants)} mutants, {survivors} survived")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
