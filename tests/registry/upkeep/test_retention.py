"""Rows are removed when a rule says so, in small batches, and never while something needs them."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from registry.access.audit import Audit
from registry.errors import UnknownReference
from registry.jobs.types import Note
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.columns import now
from registry.storage.database import Database
from registry.storage.job_models import JobRow
from registry.storage.models import AuditRow, RecipeRow
from registry.upkeep import retention
from registry.upkeep.retention import Pruned, RetentionRules, ended_jobs, prune
from tests.registry.conftest import BASE, Register
from tests.registry.jobs.rows import job_id, messages, queue

WEEK = RetentionRules(events_days=7, recipes_days=7, audit_days=7)
ARTIFACT = "a" * 64


def age(database: Database) -> None:
    """Make everything eight days old."""
    long_ago = now() - timedelta(days=8)
    with database.transaction() as session:
        session.execute(update(AuditRow).values(at=long_ago))
        session.execute(update(RecipeRow).values(created_at=long_ago))
        session.execute(
            update(JobRow).where(JobRow.finished_at.is_not(None)).values(finished_at=long_ago)
        )


def save(registry: Registry, recipe: str, artifact: str | None, *ingredients: str) -> None:
    """Save a recipe, with an artifact if one is named."""
    items = [(digest, 1.0) for digest in ingredients]
    registry.compositions.save_recipe("{}", recipe, BASE, items)
    if artifact is not None:
        registry.compositions.record_artifact(recipe, artifact, bytes=1, seconds=0.1, report={})


def test_without_rules_everything_stays(registry: Registry, database: Database) -> None:
    """By default nothing is removed, however old."""
    save(registry, "1" * 64, None)
    age(database)
    assert Pruned() == prune(database, RetentionRules(), ())
    assert registry.compositions.artifact_of("1" * 64) is None
    assert Audit(database).page().items


def test_old_logs_of_ended_jobs_go(
    registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of a job that ended long ago is removed, in batches; those of others stay."""
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in (1, 2):
        queue(registry, number)
        registry.jobs.note(job_id(number), [Note(f"line {n}") for n in range(5)])
    registry.jobs.cancel(job_id(1))
    age(database)
    assert 7 == prune(database, WEEK, ()).events
    assert [] == messages(registry, 1)
    assert 6 == len(messages(registry, 2))
    assert 0 == prune(database, WEEK, ()).events


def test_jobs_that_ended_long_ago_are_known(
    registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of some jobs, those that ended before the days are returned; active, unnamed and unknown ones
    are not."""
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(5):
        queue(registry, number)
    for number in (0, 1, 2, 4):
        registry.jobs.cancel(job_id(number))
    age(database)
    some = [*map(job_id, range(4)), job_id(77)]
    assert sorted(map(job_id, range(3))) == sorted(ended_jobs(database, 7, some))
    assert () == ended_jobs(database, 9, some)


def test_old_entries_of_the_audit_log_go(registry: Registry, database: Database) -> None:
    """Entries older than the rule are removed, younger ones stay."""
    age(database)
    registry.access.audit.note("ann", "garbage.collected", "garbage")
    assert 0 < prune(database, WEEK, ()).audit
    assert ["garbage.collected"] == [change.action for change in Audit(database).page().items]


def test_a_recipe_that_nothing_uses_goes(
    registry: Registry, database: Database, register: Register
) -> None:
    """Recipes stay that are published, young, on disk, an ingredient's, or a version's; the others
    go, and a request for the digest of their artifact finds nothing."""
    good = register("good")
    save(registry, "1" * 64, None, good)
    save(registry, "2" * 64, ARTIFACT, good)
    save(registry, "3" * 64, "b" * 64, good)  # on disk
    save(registry, "4" * 64, good, good)  # a version's
    save(registry, "5" * 64, "c" * 64, good)
    save(registry, "6" * 64, "d" * 64, "c" * 64)  # made of the one before, and on disk
    registry.compositions.add(
        "mix", expression="x", recipe_text="{}", recipe_digest="7" * 64, base=BASE,
        ingredients=[(good, 1.0)], actor="ann",
    )  # fmt: skip
    age(database)
    save(registry, "8" * 64, None, good)  # young
    assert 2 == prune(database, WEEK, {"b" * 64, "d" * 64}).recipes
    with pytest.raises(UnknownReference):
        registry.versions.resolve(parse_reference(ARTIFACT))
    for digest in ("b" * 64, "c" * 64, "d" * 64, good, "mix"):
        registry.versions.resolve(parse_reference(digest))
    assert 0 == prune(database, WEEK, {"b" * 64, "d" * 64}).recipes
