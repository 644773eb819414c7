"""What was made of an adapter shares its quarantine, its retirement and its visibility."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.admission.admit import AdmissionPolicy
from registry.callers import Caller
from registry.errors import (
    AdmissionRefused,
    SourceQuarantined,
    UnknownReference,
    VersionQuarantined,
    VersionRetired,
)
from registry.references import parse_reference
from registry.search.filters import Condition
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from registry.storage.database import Database
from registry.types import Reach
from tests.registry.conftest import BASE, Register, tensors, write_adapter

BAD, RECIPE, SECOND, ARTIFACT = "bad@1", "1" * 64, "2" * 64, "a" * 64
OTHER = Caller("other-key", "publish", "other")


def answers(registry: Registry, text: str, caller: Caller | None = None) -> bool:
    """Return whether a reference may be served."""
    try:
        registry.versions.resolve(parse_reference(text), caller=caller or Caller("all"))
    except (VersionQuarantined, VersionRetired, UnknownReference):
        return False
    return True


def merge(registry: Registry, name: str, recipe: str, artifact: str, *digests: str) -> None:
    """Save a composition whose artifact is recorded."""
    registry.compositions.add(
        name, expression="cat(…)", recipe_text="{}", recipe_digest=recipe, base=BASE,
        ingredients=[(digest, 1.0) for digest in digests], actor="ann",
    )  # fmt: skip
    registry.compositions.record_artifact(recipe, artifact, bytes=1, seconds=0.1, report={})


def publish(registry: Registry, folder: Path, seed: int, name: str, *made_of: str) -> str:
    """Register a folder as the merge of contents; return its digest."""
    made = write_adapter(folder / f"merge-{seed}", tensors(seed=seed))
    return registry.adapters.register(made, name=name, made_of=made_of).version.digest


@dataclass(frozen=True)
class Made:
    """The digests of what the fixture made of good and bad."""

    good: str
    published: str  # of ARTIFACT, whose recipe is RECIPE
    merged_again: str  # the artifact of a merge of the published one
    twice: str  # that artifact, published


@pytest.fixture
def made(registry: Registry, register: Register, tmp_path: Path) -> Made:
    """`mix` of good and bad, published as `merged`; `again` of merged and good, as `twice`."""
    good, bad = register("good", seed=1), register("bad", seed=2)
    merge(registry, "mix", RECIPE, ARTIFACT, good, bad)
    published = publish(registry, tmp_path, 3, "merged", ARTIFACT)
    artifact = "b" * 64
    merge(registry, "again", SECOND, artifact, published, good)
    return Made(good, published, artifact, publish(registry, tmp_path, 4, "twice", artifact))


def test_all_that_was_made_of_it_is_refused_until_it_is_released(
    registry: Registry, made: Made
) -> None:
    """The merge, its artifact, the published merge, and merges of that one are refused, by every
    kind of reference; a release brings all of them back."""
    everything = (
        "bad", BAD, "mix", "mix@1", ARTIFACT, "merged", "merged@1", made.published,
        "again", made.merged_again, "twice", "twice@1", made.twice,
    )  # fmt: skip
    assert all(answers(registry, text) for text in everything)
    registry.versions.quarantine(parse_reference(BAD), "harm", "ann")
    assert [] == [text for text in everything if answers(registry, text)]
    assert answers(registry, "good")
    registry.versions.release(parse_reference(BAD), "ann")
    assert [] == [text for text in everything if not answers(registry, text)]


def test_a_quarantine_lists_all_that_it_reaches(registry: Registry, made: Made) -> None:
    """The result has versions, merges, compositions and artifacts; a release has the same."""
    expected = Reach((BAD,), ("merged@1", "twice@1"), ("again@1", "mix@1"), (ARTIFACT, "b" * 64))
    assert expected == registry.versions.quarantine(parse_reference(BAD), "harm", "ann")
    assert expected == registry.versions.release(parse_reference(BAD), "ann")


def test_the_error_names_the_source_and_its_reason(registry: Registry, made: Made) -> None:
    """Whoever asks for a merge learns which of its sources is quarantined, and why."""
    registry.versions.quarantine(parse_reference(BAD), "harm", "ann")
    with pytest.raises(VersionQuarantined, match="bad@1 is quarantined: harm"):
        registry.versions.resolve(parse_reference("twice"))


def test_a_retirement_with_a_reason_reaches_as_far_and_stays(
    registry: Registry, made: Made
) -> None:
    """A withdrawn content and all that was made of it are refused, though compositions and aliases
    use it; it cannot be released."""
    registry.versions.set_alias("bad", "prod", 1, "ann")
    reach = registry.versions.withdraw(parse_reference(BAD), "licence revoked", "ann")
    assert ("merged@1", "twice@1") == reach.merges
    for text in ("bad", "bad@prod", "mix", "merged", ARTIFACT, "twice"):
        assert not answers(registry, text)
    with pytest.raises(VersionRetired, match="licence revoked"):
        registry.versions.resolve(parse_reference(BAD))
    with pytest.raises(VersionRetired):
        registry.versions.release(parse_reference(BAD), "ann")


def test_a_bare_name_means_the_newest_version_without_it(
    registry: Registry, register: Register, made: Made
) -> None:
    """The name of a merge falls back to a version of other sources, as for a quarantine itself."""
    first = register("release", seed=8)
    folder = Path(registry.adapters._blobs.path(made.published))
    registry.adapters.register(folder, name="release")
    assert made.published == registry.versions.resolve(parse_reference("release")).digest  # type: ignore[union-attr]
    registry.versions.quarantine(parse_reference(BAD), "harm", "ann")
    assert first == registry.versions.resolve(parse_reference("release")).digest  # type: ignore[union-attr]


def test_neither_searches_nor_lists_offer_it(registry: Registry, made: Made) -> None:
    """Search, pools and the list of models leave out what was made of a quarantined content."""
    registry.versions.set_alias("merged", "prod", 1, "ann")
    registry.versions.quarantine(parse_reference(BAD), "harm", "ann")
    assert {"good@1"} == {hit.reference for hit in registry.search.finder.search()}
    admitted = (Condition("status", "=", ("admitted",)),)
    assert ["good@1"] == [
        hit.reference for hit in registry.search.finder.every(where=admitted, limit=10)
    ]
    assert ["good"] == [model.id for model in registry.catalogue.models()]


def test_no_alias_can_be_moved_to_it(registry: Registry, made: Made) -> None:
    """An alias cannot move to a version that was made of a quarantined content."""
    registry.versions.quarantine(parse_reference(BAD), "harm", "ann")
    for name in ("merged", "mix"):
        with pytest.raises(VersionQuarantined):
            registry.versions.set_alias(name, "prod", 1, "ann")


def test_a_chain_closes_in_whatever_order_it_is_recorded(
    registry: Registry, register: Register, made: Made
) -> None:
    """An artifact that a second recipe gives later brings its sources to what was made of it."""
    late = register("late", seed=9)
    merge(registry, "other", "3" * 64, ARTIFACT, late)
    registry.versions.quarantine(parse_reference("late@1"), "harm", "ann")
    assert not answers(registry, "twice")


def test_a_merge_of_itself_has_no_end(registry: Registry, register: Register) -> None:
    """A recipe whose artifact is its own ingredient is no obstacle, and adds no source."""
    good = register("good")
    merge(registry, "same", "4" * 64, good, good)
    assert answers(registry, "good")
    assert Reach(("good@1",), (), ("same@1",), (good,)) == registry.versions.quarantine(
        parse_reference("good"), "harm", "ann"
    )


def test_a_merge_is_visible_to_whom_its_sources_are(
    registry: Registry, register: Register, tmp_path: Path
) -> None:
    """A public merge of a foreign adapter is hidden when that adapter becomes private, from
    resolving, digests and searches; it is back when the adapter is public again."""
    opened = register("team/opened", seed=1)
    registry.versions.set_visibility("team/opened", "public", "ann")
    digest = publish(registry, tmp_path, 3, "merged", opened)
    for visibility, seen in (("public", True), ("private", False), ("public", True)):
        registry.versions.set_visibility("team/opened", visibility, "ann")  # type: ignore[arg-type]
        assert seen == answers(registry, "merged", OTHER)
        assert seen == answers(registry, digest, OTHER)
        hits = {hit.reference for hit in registry.search.finder.search(caller=OTHER)}
        assert seen == ("merged@1" in hits)
        assert seen == ("merged" in {m.id for m in registry.catalogue.models(caller=OTHER)})
        assert answers(registry, "merged", Caller("team-key", "publish", "team"))


def test_a_namespace_may_publish_what_it_made_of_its_own(
    registry: Registry, register: Register, tmp_path: Path
) -> None:
    """A public merge of private adapters of its own namespace is visible to others, and what is
    quarantined below it is not named to them."""
    private = register("team/private", seed=1)
    publish(registry, tmp_path, 3, "team/merged", private)
    registry.versions.set_visibility("team/merged", "public", "ann")
    assert answers(registry, "team/merged", OTHER)
    registry.versions.quarantine(parse_reference("team/private@1"), "secret harm", "ann")
    with pytest.raises(SourceQuarantined, match="team/merged@1") as caught:
        registry.versions.resolve(parse_reference("team/merged"), caller=OTHER)
    assert "secret" not in str(caught.value)
    assert "private" not in str(caught.value)


def licensed(registry: Registry, folder: Path, seed: int, licence: str | None) -> str:
    """Register an adapter with a licence in its card; return its digest."""
    made = write_adapter(folder / f"licensed-{seed}", tensors(seed=seed))
    if licence is not None:
        (made / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    return registry.adapters.register(made, name=f"licensed-{seed}").version.digest


def test_a_merge_keeps_the_licences_of_its_sources(registry: Registry, tmp_path: Path) -> None:
    """Licences are joined, each once; a merge of a merge has all of them; an unknown one counts."""
    mit, apache, none = (
        licensed(registry, tmp_path, number, licence)
        for number, licence in enumerate(("mit", "apache-2.0", None), 11)
    )
    one = publish(registry, tmp_path, 21, "one", mit, apache)
    publish(registry, tmp_path, 22, "two", one, mit)
    publish(registry, tmp_path, 23, "three", one, none)
    publish(registry, tmp_path, 24, "four", none)
    licences = {
        name: registry.catalogue.adapter_version(parse_reference(name)).licence
        for name in ("one", "two", "three", "four")
    }
    assert {
        "one": "apache-2.0 AND mit", "two": "apache-2.0 AND mit",
        "three": "apache-2.0 AND mit AND NOASSERTION", "four": None,
    } == licences  # fmt: skip


def test_a_policy_about_licences_holds_for_merges(
    database: Database, registry: Registry, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """A merge is admitted if all its licences are allowed, and needs no card of its own."""
    mit, gpl = (licensed(registry, tmp_path, n, name) for n, name in ((1, "mit"), (2, "gpl-3.0")))
    policy = AdmissionPolicy(licences=frozenset({"mit"}), required=frozenset({"card", "licence"}))
    strict = Registry(database, blobs, policy)
    publish(strict, tmp_path, 3, "good", mit)
    with pytest.raises(AdmissionRefused, match="A070"):
        publish(strict, tmp_path, 4, "bad", mit, gpl)
