"""README's tables say what the code does: a row that is missing or wrong fails here."""

import re
from pathlib import Path

from fastapi.routing import APIRoute
from pydantic_core import PydanticUndefined
from typer.main import get_command

from merge.adaptive.options import Options
from merge.methods import METHODS
from registry.admission.findings import CODES
from server.admin.routes import admin_router
from server.auth import role_of
from server.cli.main import app
from server.compose.expression import Expression, parse_model
from server.engine.fake import FakeEngine
from server.errors import ERRORS
from server.gateway import Gateway
from server.jobs.failures import MEANINGS
from server.metrics import Metrics
from server.serve import open_registry
from server.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def rows_of(heading: str) -> list[str]:
    """Return the table rows under a heading of the README, header and rule left out."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_settings() -> None:
    """The settings' table is the settings: name, default, meaning."""
    expected = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, (), "", PydanticUndefined) else field.default
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        cell = f"`{shown}`" if shown else ""
        expected.append(f"| `WEFT_{name.upper()}` | {cell} | {field.description} |")

    assert expected == rows_of("Settings")


def test_methods() -> None:
    """The methods' table is the registered methods: paper, title, options, departures."""
    expected = []
    for name, method in sorted(METHODS.items()):
        options = ", ".join(f"`{o}={p.default}`" for o, p in method.parameters.items())
        differs = method.differs or ""
        expected.append(f"| `{name}` | {method.paper} | {method.title} | {options} | {differs} |")

    assert expected == rows_of("Methods")


def test_law_exemptions() -> None:
    """The table of laws lists every exemption with its reason."""
    expected = [
        f"| `{name}` | {law} | {reason} |"
        for name, method in sorted(METHODS.items())
        for law, reason in sorted(method.exempt.items())
    ]

    assert expected == rows_of("Laws")


def test_errors() -> None:
    """The errors' table is the table of errors."""
    expected = [
        f"| {row.status} | `{row.code}` | {row.meaning} |"
        for row in sorted(ERRORS.values(), key=lambda row: (row.status, row.code))
    ]

    assert expected == rows_of("Errors")


def test_options_of_jobs() -> None:
    """The table of adaptive merging is every option of a job, with its default."""
    expected = []
    for name, default in Options().to_json().items():
        shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        expected.append((f"`{name}`", "" if default is None else f"`{shown}`"))

    cells = [row.split(" | ") for row in rows_of("Adaptive merging")]
    assert expected == [(name.removeprefix("| "), default.strip()) for name, default, _ in cells]


def test_errors_of_jobs() -> None:
    """The jobs' table is every code that only a job can fail with."""
    expected = [f"| `{code}` | {meaning} |" for code, meaning in MEANINGS.items()]

    assert expected == rows_of("Errors of jobs")


def test_metrics() -> None:
    """The metrics' table is what /metrics offers."""
    suffix = {"counter": "_total"}
    expected = [
        f"| `{family.name}{suffix.get(family.type, '')}` | {family.documentation} |"
        for family in Metrics().registry.collect()
    ]

    assert sorted(expected) == sorted(rows_of("Metrics"))


def test_findings() -> None:
    """The findings' table is every code of admission and probe."""
    expected = [f"| `{name}` | {c.severity} | {c.sentence} |" for name, c in CODES.items()]

    assert expected == rows_of("Findings")


def test_routes(tmp_path: Path) -> None:
    """The registry's table is the admin API: method, path, role, first line of the docstring."""
    registry, versions = open_registry(settings := Settings(home=tmp_path))
    engine = FakeEngine("base")
    gateway = Gateway(settings, registry=registry, versions=versions, engine=engine, base="base")
    expected = []
    for route in admin_router(gateway).routes:
        assert isinstance(route, APIRoute)
        path = route.path.replace(":path", "")
        said = route.description.splitlines()[0]
        role = f"`{role_of(route)}`"
        expected += [f"| {m} | `{path}` | {role} | {said} |" for m in sorted(route.methods)]

    assert sorted(expected) == sorted(rows_of("Registry"))


def test_every_expression_in_the_readme_parses() -> None:
    """What the README shows as a model can be asked for."""
    shown = re.findall(r"`((?:[a-z_]+\([^`]*\)|[0-9.]+\*[^`]*))`", README)
    shown = [text for text in shown if "=" in text or "*" in text]

    assert len(shown) >= 5
    for text in shown:
        assert isinstance(parse_model(text), Expression)


def test_commands() -> None:
    """Every command of the CLI is in the README, and every `weft …` there exists."""
    command = get_command(app)
    groups = {
        name: sorted(getattr(sub, "commands", {}))
        for name, sub in command.commands.items()  # type: ignore[attr-defined]  # a group
    }
    offered = {f"weft {n}" for n, subs in groups.items() if not subs} | {
        f"weft {n} {sub}" for n, subs in groups.items() for sub in subs
    }

    assert offered == set(re.findall(r"^\| `(weft [a-z]+(?: [a-z]+)?)", README, re.MULTILINE))


def test_make_targets() -> None:
    """Every target of the Makefile is named in README or CONTRIBUTING."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)

    assert targets is not None
    for target in targets.group(1).split():
        assert f"make {target}" in README + CONTRIBUTING, target


def test_rooms() -> None:
    """CONTRIBUTING's map names every module of the packages."""
    for package in ("merge", "registry", "server"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name not in ("__init__.py", "__main__.py"):
                assert path.name in CONTRIBUTING or path.parent.name + "/" in CONTRIBUTING, path
