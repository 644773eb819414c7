"""The log of imports as lists: what was admitted with findings, what was refused with problems."""

from pathlib import Path

import pytest

from registry.callers import Caller
from registry.errors import CursorInvalid
from registry.paging import cursor_at
from registry.references import parse_reference
from registry.service import Registry
from tests.registry.conftest import Register, tensors, write_adapter

TEAM = Caller("ci", role="read", namespace="team")


def refuse(registry: Registry, source: str, name: str) -> None:
    """Remember that a source was refused under a name."""
    registry.imports.remember(
        source, name, "0" * 64, digest=None, problems=["A001 config-missing"], actor="ada"
    )


def test_versions_come_with_what_admission_found(registry: Registry, tmp_path: Path) -> None:
    """Each version is listed, newest first, with its source, its status and its findings."""
    zeros = {name: 0 * tensor for name, tensor in tensors().items()}
    for name, weights in (("legal", tensors()), ("team/empty", zeros)):
        folder = write_adapter(tmp_path / name.replace("/", "-"), weights)
        registry.adapters.register(folder, name=name, source=f"folder:{name}", actor="ada")
    registry.versions.quarantine(parse_reference("team/empty@1"), "zeros", "ada")
    empty, legal = registry.imports.admitted().items
    assert ("team/empty@1", "folder:team/empty", "quarantined", "ada") == (
        empty.reference, empty.source, empty.status, empty.by,
    )  # fmt: skip
    assert "A052 zero-update" in [finding["code"] for finding in empty.findings]
    assert ("legal@1", "admitted") == (legal.reference, legal.status)


def test_lists_have_what_a_caller_sees(registry: Registry, register: Register) -> None:
    """Versions and refusals of other namespaces are not listed."""
    for seed, name in enumerate(("legal", "team/law", "other/secret")):
        register(name, seed=seed)
        refuse(registry, f"hf:acme/{seed}", name)
    assert ["team/law@1", "legal@1"] == [
        one.reference for one in registry.imports.admitted(caller=TEAM).items
    ]
    assert ["legal", "team/law"] == sorted(
        one.name for one in registry.imports.refused(caller=TEAM).items
    )
    assert 3 == len(registry.imports.refused().items)


def test_a_refused_name_outside_is_no_one_else_s(registry: Registry) -> None:
    """A refusal under a name that does not exist is told in its namespace alone."""
    refuse(registry, "hf:acme/a", "team/new")
    refuse(registry, "hf:acme/b", "new")
    assert ["team/new"] == [one.name for one in registry.imports.refused(caller=TEAM).items]


def test_both_lists_come_in_pages(registry: Registry, register: Register) -> None:
    """Cursors lead through all items once, also where refusals share a moment."""
    for seed in range(3):
        register(f"a{seed}", seed=seed)
        refuse(registry, "hf:acme/same", f"a{seed}")
    for pages in (registry.imports.admitted, registry.imports.refused):
        names: list[str] = []
        cursor: str | None = None
        while True:
            page = pages(cursor=cursor, limit=1)
            names += [one.name for one in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert ["a0", "a1", "a2"] == sorted(names)


@pytest.mark.parametrize(
    "place",
    ["", "[]", "{}", "1", '["2026-01-01", "a", "b"]', '["x", "a", "b"]', "[" * 2000,
     '["2026-01-01T00:00:00+00:00", "\\u0000", "b"]'],
)  # fmt: skip
def test_made_up_cursors_are_refused(registry: Registry, place: str) -> None:
    """A cursor with another content than the list writes is refused."""
    with pytest.raises(CursorInvalid):
        registry.imports.refused(cursor=cursor_at("refused", place))
