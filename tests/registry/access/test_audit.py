"""Every change adds an entry to the audit log in its own transaction, with its actor."""

from collections.abc import Callable
from typing import Any

import pytest

from registry.callers import Caller
from registry.errors import CursorInvalid, VersionInUse
from registry.references import parse_reference
from registry.service import Registry
from tests.registry.access.test_visibility import MIX, MIX_RECIPE, compose
from tests.registry.conftest import SHAPES, Register, tensors, write_adapter
from tests.registry.jobs.rows import job_id, put_file, queue

TEAM = Caller("boss", "admin", "team")
FILE = f"file-{1:024x}"


def entries(registry: Registry, **filters: Any) -> list[tuple[str, str, str]]:
    """Return (actor, action, subject), newest first."""
    return [(c.actor, c.action, c.subject) for c in registry.access.audit.page(**filters).items]


CHANGES: dict[str, Callable[[Registry], object]] = {
    "base.added": lambda r: r.bases.add("acme/new", shapes=SHAPES, actor="ada"),
    "alias.moved": lambda r: r.versions.set_alias("legal", "prod", 1, "ada"),
    "version.retired": lambda r: r.versions.retire(parse_reference("legal@1"), "ada"),
    "visibility.changed": lambda r: r.versions.set_visibility("team/law", "public", "ada"),
    "evaluation.recorded": lambda r: r.evaluations.record(
        "legal", 1, dataset="d", metric="m", value=1, actor="ada"
    ),
    "key.created": lambda r: r.access.keys.create("ci", role="read", actor="ada"),
    "key.revoked": lambda r: r.access.keys.revoke("old", actor="ada"),
    "tags.changed": lambda r: r.search.descriptions.change_tags("legal", add=["law"], actor="ada"),
    "examples.changed": lambda r: r.search.descriptions.set_examples(
        "legal", ["who?"], actor="ada"
    ),
    "version.quarantined": lambda r: r.versions.quarantine(
        parse_reference("legal@1"), "bad", "ada"
    ),
    "version.released": lambda r: r.versions.release(parse_reference("legal@1"), "ada"),
    "garbage.collected": lambda r: r.access.audit.note("ada", "garbage.collected", "garbage"),
    "file.added": lambda r: put_file(r, 2),
    "file.removed": lambda r: r.files.remove(FILE, actor="ada"),
    "job.created": lambda r: queue(r, 4, training_file=FILE),
    "job.cancelled": lambda r: r.jobs.cancel(job_id(2), actor="ada"),
    "job.finished": lambda r: r.jobs.finish(job_id(2), "ada", "succeeded"),
    "job.published": lambda r: r.jobs.publish(job_id(1), "legal@1", actor="ada"),
    "artifact.removed": lambda r: r.access.audit.note("ada", "artifact.removed", MIX),
}


def _run_jobs(registry: Registry) -> None:
    """Create one succeeded and one running job for `ada`."""
    for number in (1, 2):
        queue(registry, number)
        registry.jobs.claim("ada", None)
    registry.jobs.finish(job_id(1), "ada", "succeeded")


@pytest.mark.parametrize("action", CHANGES)
def test_every_change_leaves_one_entry(registry: Registry, register: Register, action: str) -> None:
    """Each change adds one entry with its actor."""
    register("legal")
    register("team/law", seed=1)
    registry.access.keys.create("old", role="read")
    put_file(registry, 1)
    _run_jobs(registry)
    before = len(entries(registry))
    CHANGES[action](registry)
    assert before + 1 == len(entries(registry))
    assert ("ada", action) == entries(registry)[0][:2]


def test_what_is_registered_and_composed_leaves_entries(
    registry: Registry, register: Register
) -> None:
    """The entries name the version and the alias that was moved with it."""
    compose(registry, "mix", MIX_RECIPE, MIX, register("legal", alias="prod"))
    assert [
        ("test", "composition.added", "mix@1"), ("local", "alias.moved", "legal"),
        ("local", "adapter.registered", "legal@1"), ("local", "base.added", "acme/Tiny-Instruct"),
    ] == entries(registry)  # fmt: skip


def test_what_changes_nothing_leaves_nothing(registry: Registry, register: Register) -> None:
    """A repeated registration, alias, base, composition, revocation or retirement adds no entry."""
    compose(registry, "mix", MIX_RECIPE, MIX, register("legal", alias="prod"))
    register("law", seed=1)
    registry.access.keys.create("ci", role="read")
    for again in (False, True):
        before = len(entries(registry))
        compose(registry, "mix", MIX_RECIPE, MIX, register("legal", alias="prod"))
        registry.bases.add("acme/Tiny-Instruct", shapes=SHAPES)
        registry.versions.retire(parse_reference("law@1"), "ada")
        registry.access.keys.revoke("ci")
        assert not again or before == len(entries(registry))


def test_a_change_that_fails_leaves_nothing(registry: Registry, register: Register) -> None:
    """The change and its entry are both committed or both rolled back."""
    register("legal", alias="prod")
    before = entries(registry)
    with pytest.raises(VersionInUse):
        registry.versions.retire(parse_reference("legal@1"), "ada")
    assert before == entries(registry)


def test_filters_narrow_the_log(registry: Registry, register: Register) -> None:
    """Actor, action and subject filter the log; a name also matches its versions."""
    register("legal", alias="prod")
    register("legal2", seed=1)
    registry.access.keys.create("legal", role="read", actor="ada")
    assert [("ada", "key.created", "legal")] == entries(registry, actor="ada")
    assert ["legal"] == [e[2] for e in entries(registry, action="alias.moved")]
    assert ["legal", "legal", "legal@1"] == [e[2] for e in entries(registry, subject="legal")]
    assert [] == entries(registry, subject="leg_l")


def test_an_admin_of_a_namespace_reads_its_part(registry: Registry, register: Register) -> None:
    """Callers of a namespace do not see changes elsewhere, of bases or of others' keys."""
    register("team/law")
    register("other/law", seed=1)
    registry.access.keys.create("ours", role="read", namespace="team")
    registry.access.keys.create("theirs", role="read", namespace="other")
    registry.bases.add("team/base", shapes=SHAPES)
    queue(registry, 1, caller=TEAM)
    put_file(registry, 1)
    ours = [job_id(1), f"file-{10_001:024x}", "ours", "team/law@1"]
    assert ours == [e[2] for e in entries(registry, caller=TEAM)]


def test_the_log_goes_by_pages(registry: Registry) -> None:
    """The list is newest first; new entries do not shift the following pages."""
    for i in range(5):
        registry.access.keys.create(f"k{i}", role="read")
    first = registry.access.audit.page(limit=2)
    registry.access.keys.create("late", role="read")
    rest = registry.access.audit.page(limit=10, cursor=first.next_cursor)
    seen = [change.subject for change in (*first.items, *rest.items)]
    assert ["k4", "k3", "k2", "k1", "k0", "acme/Tiny-Instruct"] == seen
    with pytest.raises(CursorInvalid):
        registry.access.audit.page(cursor=registry.access.keys.page(limit=1).next_cursor)


def test_detail_says_what_changed(registry: Registry, register: Register, tmp_path: Any) -> None:
    """The detail has the old and new target of an alias, and the digest of a content."""
    digest = register("legal", alias="prod")
    folder = write_adapter(tmp_path / "next", tensors(seed=5))
    registry.adapters.register(folder, name="legal", alias="prod", source="folder:next")
    moved, registered, *_ = registry.access.audit.page().items
    assert {"alias": "prod", "from": 1, "to": 2} == moved.detail
    assert "folder:next" == registered.detail["source"]
    assert digest != registered.detail["digest"]
