"""Unreferenced files are removed, and referenced files stay, also during concurrent work."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME
from registry.errors import CursorInvalid
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.models import AdapterVersionRow, CompositionVersionRow
from registry.upkeep.garbage import DAY_SECONDS, YOUNG_SECONDS, Collector, Garbage, KeepRules
from tests.registry.conftest import BASE, Register, tensors, write_adapter
from tests.registry.jobs.rows import job_id, queue

OLD = 30 * DAY_SECONDS
Collect = Callable[..., Collector]


@pytest.fixture
def artifacts(tmp_path: Path) -> LocalBlobs:
    """The folder that engines load from."""
    return LocalBlobs(tmp_path / "store" / "artifacts")


@pytest.fixture
def collector(database: Database, blobs: LocalBlobs, artifacts: LocalBlobs) -> Collector:
    """A collector with the default rules, without a budget."""
    return Collector(database, blobs, artifacts, KeepRules())


class Shop:
    """Creates compositions, artifacts and old files."""

    def __init__(self, registry: Registry, artifacts: LocalBlobs, database: Database) -> None:
        self.registry, self.artifacts, self.database = registry, artifacts, database
        self._recipes = iter("abcdef")

    def build(self, *ingredients: str, name: str | None = None) -> str:
        """Build a recipe into an artifact, compose it under `name`, and return the artifact."""
        letter = next(self._recipes)
        recipe, weights = letter * 64, [(digest, 1.0) for digest in ingredients]
        self.registry.compositions.save_recipe(letter, recipe, BASE, weights)
        if name is not None:
            self.registry.compositions.add(
                name, expression="cat(…)", recipe_text=letter, recipe_digest=recipe, base=BASE,
                ingredients=weights, actor="me",
            )  # fmt: skip
        artifact = self.store(letter)
        self.registry.compositions.record_artifact(
            recipe, artifact, bytes=4, seconds=0.1, report={}
        )
        return artifact

    def store(self, content: str) -> str:
        """Store an artifact without a row, and return its digest."""
        return put(self.artifacts, content)

    def retire(self, text: str, *, ago_seconds: float = OLD) -> None:
        """Retire a version with a time in the past."""
        reference = parse_reference(text)
        self.registry.versions.retire(reference, "me")
        moment = now() - timedelta(seconds=ago_seconds)
        with self.database.transaction() as session:
            for table in (AdapterVersionRow, CompositionVersionRow):
                of_name = table.name == reference.name, table.number == reference.version
                session.execute(update(table).where(*of_name).values(retired_at=moment))


def put(store: LocalBlobs, content: str) -> str:
    """Store a folder and return its digest."""
    with store.workspace() as folder:
        (folder / CONFIG_NAME).write_text(content)
        (folder / WEIGHTS_NAME).write_text(content * 3)
        return store.adopt(folder)


def age(store: LocalBlobs, seconds: float = OLD) -> None:
    """Set the last use of all folders of a store to a time in the past."""
    for digest in store.digests():
        os.utime(store.path(digest), (time.time() - seconds,) * 2)


def reasons(collector: Collector) -> dict[str, str]:
    """Return the reason for each digest that can be removed."""
    return {garbage.digest: garbage.reason for garbage in collector.plan()}


@pytest.fixture
def shop(registry: Registry, artifacts: LocalBlobs, database: Database) -> Shop:
    """A registry to build in."""
    return Shop(registry, artifacts, database)


def test_an_empty_registry_has_no_garbage(collector: Collector) -> None:
    """Stores that do not exist are empty."""
    assert () == collector.plan()
    assert () == collector.collect(())
    assert 0 == collector.sweep()


def test_what_is_in_use_stays(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs
) -> None:
    """Live versions and artifacts of compositions stay, however old they are."""
    shop.build(register("legal"), register("legal", seed=1), name="mix")
    age(blobs)
    age(shop.artifacts)
    assert {} == reasons(collector)


def test_the_plan_comes_by_pages(collector: Collector, blobs: LocalBlobs) -> None:
    """The pages list all garbage once, by store and digest, also if some is removed meanwhile."""
    all_of_it = sorted(put(blobs, content) for content in "abcde")
    age(blobs)
    first = collector.page(limit=2)
    assert all_of_it[:2] == [garbage.digest for garbage in first.items]
    collector.collect(first.items[:1])
    second = collector.page(limit=3, cursor=first.next_cursor)
    assert (all_of_it[2:], None) == ([g.digest for g in second.items], second.next_cursor)
    with pytest.raises(CursorInvalid):
        collector.page(cursor="x")


def test_files_of_a_crashed_import_go(
    collector: Collector, register: Register, blobs: LocalBlobs
) -> None:
    """Files without a version are orphans; the plan removes nothing, and `collect` removes them."""
    used, orphan = register("legal"), put(blobs, "crashed")
    age(blobs)
    (garbage,) = collector.plan()
    assert ("versions", orphan, "orphan") == (garbage.store, garbage.digest, garbage.reason)
    assert len("crashed") * 4 == garbage.bytes
    assert OLD <= garbage.idle_seconds < OLD + 60
    assert blobs.has(orphan)
    (done,) = collector.collect([garbage])
    assert done.removed
    assert {used} == blobs.digests()


def test_young_files_stay(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs
) -> None:
    """New files are not garbage for an hour, because an import stores files before rows."""
    register("legal")
    shop.retire("legal@1")
    for store in (blobs, shop.artifacts):
        put(store, "unreferenced")
        age(store, YOUNG_SECONDS - 60)
    assert {} == reasons(collector)
    age(blobs, YOUNG_SECONDS + 60)
    age(shop.artifacts, YOUNG_SECONDS + 60)
    assert {"orphan", "retired"} == set(reasons(collector).values())


def test_a_retired_version_stays_for_the_grace(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs
) -> None:
    """The files of a retired version stay for a week by default."""
    recent, old = register("recent"), register("old", seed=1)
    shop.retire("recent@1", ago_seconds=6 * DAY_SECONDS)
    shop.retire("old@1", ago_seconds=8 * DAY_SECONDS)
    age(blobs)
    assert {old: "retired"} == reasons(collector)
    assert blobs.has(recent)


def test_content_that_another_name_has_in_use_stays(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs
) -> None:
    """Files stay while any version with their digest is live."""
    register("legal")
    register("mirror")
    shop.retire("legal@1")
    age(blobs)
    assert {} == reasons(collector)


def test_what_a_composition_is_made_of_stays(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs
) -> None:
    """Ingredients of compositions stay, through artifacts down to versions, retired or not."""
    bottom, other = register("bottom"), register("other", seed=1)
    inner = shop.build(bottom)
    shop.retire("bottom@1")
    shop.retire("other@1")
    outer = shop.build(inner, other, name="mix")
    age(blobs)
    age(shop.artifacts)
    assert {} == reasons(collector)
    shop.retire("mix@1")
    gone = {bottom: "retired", other: "retired", inner: "unused", outer: "unused"}
    assert gone == reasons(collector)


@pytest.mark.parametrize("running", [False, True])
def test_what_a_job_draws_on_stays_until_it_has_ended(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs, running: bool
) -> None:
    """The members of a queued or running job stay, even if they are retired."""
    registry, digest = shop.registry, register("legal")
    queue(registry, 1, request={"members": [{"reference": "legal@1", "digest": digest}]})
    queue(registry, 2, request={"members": None})
    shop.retire("legal@1")
    age(blobs)
    if running:
        registry.jobs.claim("w", None)
    assert {} == reasons(collector)
    if running:
        registry.jobs.finish(job_id(1), "w", "succeeded")
    else:
        registry.jobs.cancel(job_id(1))
    assert {digest: "retired"} == reasons(collector)


def test_an_artifact_that_no_composition_needs_stays_while_it_is_asked_for(
    collector: Collector, shop: Shop, register: Register
) -> None:
    """The artifact of an expression is removed a week after its last use, an orphan at once."""
    digest = register("legal")
    shop.artifacts.touch(digest)
    unused, orphan = shop.build(digest), shop.store("self-test")
    age(shop.artifacts, 6 * DAY_SECONDS)
    assert {orphan: "orphan"} == reasons(collector)
    age(shop.artifacts, 8 * DAY_SECONDS)
    assert {orphan: "orphan", unused: "unused"} == reasons(collector)


def test_a_staged_version_goes_with_its_version(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """The staged copy of a live version stays; that of a retired one is removed."""
    digests = {name: register(name, seed=seed) for seed, name in enumerate(("legal", "tax"))}
    for digest in digests.values():
        with shop.artifacts.workspace() as folder:
            for file in blobs.path(digest).iterdir():
                (folder / file.name).hardlink_to(file)
            shop.artifacts.adopt(folder)
    shop.retire("tax@1")
    age(shop.artifacts)
    plan = collector.plan()
    assert [("artifacts", digests["tax"], "retired")] == [
        (g.store, g.digest, g.reason) for g in plan
    ]


def test_the_budget_takes_the_unneeded_first_and_then_the_oldest(
    database: Database, blobs: LocalBlobs, shop: Shop, register: Register
) -> None:
    """Artifacts beyond the budget are removed, unreferenced and older ones first; new ones stay."""
    digest = register("legal")
    needed = shop.build(digest, name="mix")
    old, recent = shop.build(digest), shop.build(digest)
    for artifact, days in ((needed, 5), (old, 4), (recent, 3)):
        os.utime(shop.artifacts.path(artifact), (time.time() - days * DAY_SECONDS,) * 2)
    shop.store("young")
    sizes = {name: shop.artifacts.size(name) for name in shop.artifacts.digests()}
    total, gone = sum(sizes.values()), []
    for limit in (total, total - 1, total - sizes[old] - 1, 0):
        rules = KeepRules(artifact_budget_bytes=limit)
        plan = Collector(database, blobs, shop.artifacts, rules).plan()
        assert {"budget"} >= {garbage.reason for garbage in plan}
        gone.append({garbage.digest for garbage in plan})
    assert [set(), {old}, {old, recent}, {old, recent, needed}] == gone


def test_what_came_into_use_since_the_plan_stays(
    collector: Collector, registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """A content that is registered between plan and removal stays."""
    folder = write_adapter(tmp_path / "a", tensors())
    digest = registry.adapters.register(folder, name="legal").version.digest
    age(blobs)
    planned = [Garbage("versions", digest, 1, OLD, "orphan")]
    (done,) = collector.collect(planned)
    assert not done.removed
    assert blobs.has(digest)


def test_an_import_of_garbage_makes_it_young(
    collector: Collector, registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """An import of stored content resets its idle time, so it is not collected."""
    folder = write_adapter(tmp_path / "a", tensors())
    digest = registry.adapters.register(folder, name="legal").version.digest
    age(blobs)
    before = blobs.used_at(digest)
    registry.adapters.register(folder, name="mirror")
    assert blobs.used_at(digest) > before
    assert not blobs.discard(digest, idle_seconds=YOUNG_SECONDS)


def test_an_import_in_the_middle_of_a_removal_wins(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was used while it was moved aside is moved back."""
    digest = put(blobs, "same")
    age(blobs)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if self.name == digest and self.parent.name == "blobs":
            os.utime(self)  # the import starts after the first check
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert not blobs.discard(digest, idle_seconds=YOUNG_SECONDS)
    monkeypatch.undo()
    blobs.verify(digest)


def test_an_import_just_after_a_removal_brings_its_own_files(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`adopt` moves its own copy in if the existing content is discarded meanwhile."""
    digest = put(blobs, "same")
    touch = LocalBlobs.touch

    def vanishing(self: LocalBlobs, wanted: str) -> bool:
        monkeypatch.undo()
        self.delete(wanted)
        return touch(self, wanted)

    monkeypatch.setattr(LocalBlobs, "touch", vanishing)
    assert digest == put(blobs, "same")
    blobs.verify(digest)


def test_another_process_may_remove_it_first(blobs: LocalBlobs) -> None:
    """Two concurrent collections succeed, and one of them removes the folder."""
    digest = put(blobs, "x")
    age(blobs)
    assert blobs.discard(digest, idle_seconds=YOUNG_SECONDS)
    assert not blobs.discard(digest, idle_seconds=YOUNG_SECONDS)
    assert 0 == blobs.used_at(digest) == blobs.size(digest)


def test_open_files_outlive_their_removal(
    collector: Collector, shop: Shop, register: Register, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """An engine's hard links keep the bytes after the store removes them."""
    digest = register("legal")
    link = tmp_path / "link"
    link.hardlink_to(blobs.path(digest) / WEIGHTS_NAME)
    before = link.read_bytes()
    shop.retire("legal@1")
    age(blobs)
    collector.collect(collector.plan())
    assert not blobs.has(digest)
    assert before == link.read_bytes()


def test_workspaces_of_crashed_processes_go(collector: Collector, blobs: LocalBlobs) -> None:
    """A workspace is removed after an hour without a change."""
    with blobs.workspace() as young, blobs.workspace() as old:
        os.utime(old, (time.time() - YOUNG_SECONDS - 60,) * 2)
        assert 1 == collector.sweep()
        assert (True, False) == (young.exists(), old.exists())
