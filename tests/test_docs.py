"""The documents say what the code does: a stale table, a broken link or a wrong map fails here."""

import re

import pytest

from registry.search.filters import FIELDS, parse_filter
from server.auth import OPEN_PATHS
from server.compose.expression import Expression, parse_model
from tests.reference import DOCUMENTS, ROOT, TABLES, rendered

TEXTS = {name: (ROOT / name).read_text() for name in DOCUMENTS}
CONTRIBUTING = TEXTS["CONTRIBUTING.md"]
PACKAGES = ("merge", "registry", "server")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tables_are_current(name: str) -> None:
    """Every generated table is what the code says now; `make docs` rewrites a stale one."""
    assert TEXTS[name] == rendered(TEXTS[name]), f"{name} is stale: run `make docs`"


def test_every_table_is_shown_once() -> None:
    """Each table of the generator stands in exactly one document."""
    shown = [name for text in TEXTS.values() for name in re.findall(r"<!-- table: (\w+) -->", text)]

    assert sorted(TABLES) == sorted(shown)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Every relative link of a document leads to a file or a folder."""
    missing = [link for link in _LINK.findall(TEXTS[name]) if not (ROOT / link).exists()]

    assert [] == missing


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_left_of_a_merge(name: str) -> None:
    """No document has conflict markers."""
    assert [] == re.findall(r"^(?:<{7}|={7}|>{7})(?: .*)?$", TEXTS[name], re.MULTILINE)


def test_paths_exist() -> None:
    """Every path of the project that a document names in backticks exists."""
    folders = "merge|registry|server|tests|deploy|migrations"
    pages = [ROOT / name for name in (*DOCUMENTS, "CHANGELOG.md")]
    pages += [*(ROOT / "deploy").glob("*.md"), *(ROOT / "tests").rglob("*.md")]
    missing = [
        f"{page.name}: {path}"
        for page in pages
        for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text())
        if "NAME" not in path and not (ROOT / path).exists()
    ]

    assert [] == missing


def test_every_expression_parses() -> None:
    """What a document shows as a composition can be sent as `model`."""
    text = "".join(TEXTS[name] for name in ("README.md", "ADAPTIVE.md", "REFERENCE.md"))
    shown = re.findall(r"`((?:[a-z_]+\([^`]*\)|[0-9.]+\*[^`]*))`", text)
    shown = [text for text in shown if "=" in text or "*" in text]

    assert len(shown) >= 5
    for text in shown:
        assert isinstance(parse_model(text), Expression)


def test_filter_fields() -> None:
    """REFERENCE names every field of the filter language, and its example is a filter."""
    section = TEXTS["REFERENCE.md"].partition("\n## Search\n")[2].partition("\n## ")[0]
    example = re.findall(r"^    (.+)$", section, re.MULTILINE)
    shown = {condition.field for condition in parse_filter(example[0])}

    assert set(FIELDS) == shown | set(re.findall(r"`([a-z_]+)`", section)) & set(FIELDS)


@pytest.mark.parametrize("name", ["README.md", "REFERENCE.md"])
def test_open_routes(name: str) -> None:
    """README and REFERENCE name exactly the routes that need no key."""
    sentence = re.search(r"every route\s+except ([^.]*?) needs", TEXTS[name])

    assert sentence is not None
    assert set(re.findall(r"`([^`]+)`", sentence[1])) == OPEN_PATHS


def test_make_targets() -> None:
    """Every phony target of the Makefile has a description, and so a row in CONTRIBUTING."""
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `make ([a-z-]+)`", CONTRIBUTING, re.MULTILINE)

    assert phony is not None
    assert sorted(phony[1].split()) == sorted(rows)


def mapped() -> set[str]:
    """Return every folder (with a final slash) and module that CONTRIBUTING's map names."""
    section = CONTRIBUTING.partition("\n## The map\n")[2].partition("\n## ")[0]
    found = set()
    for paragraph in re.split(r"^(?=\*\*)", section, flags=re.MULTILINE)[1:]:
        top, names = re.match(r"\*\*(\w+/)\*\*(.*)", paragraph, re.DOTALL).groups()  # type: ignore[union-attr]
        found |= {top, *(top + name for name in re.findall(r"`([a-z_/]+(?:/|\.py))`", names))}
    return found


def on_disk() -> set[str]:
    """Return every folder of the packages, and every module that stands at a package's top."""
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    modules += (ROOT / "tests").glob("*/**/*.py")
    paths = [path.relative_to(ROOT) for path in modules]
    folders = {f"{path.parent}/" for path in paths if path.parts[0] != "tests"}
    tops = {str(path) for path in paths if len(path.parts) == 2 and path.stem != "__init__"}
    return (
        folders | tops | {f"tests/{path.parts[1]}/" for path in paths if path.parts[0] == "tests"}
    )


def test_the_map_names_what_is_there() -> None:
    """CONTRIBUTING's map names every folder of the packages and every module at their top."""
    assert set() == on_disk() - mapped()


def test_the_map_names_nothing_else() -> None:
    """Every folder and module that CONTRIBUTING's map names exists."""
    wrong = {
        name
        for name in mapped()
        if not ((ROOT / name).is_dir() if name.endswith("/") else (ROOT / name).is_file())
    }

    assert set() == wrong
