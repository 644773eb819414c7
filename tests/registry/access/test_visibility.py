"""Namespaces: what is private to one does not exist for callers of another."""

from dataclasses import dataclass

import pytest

from registry.callers import LOCAL, Caller, Role, namespace_of, visible
from registry.errors import (
    AccessDenied,
    ContentQuarantined,
    RegistryError,
    UnknownReference,
    VersionQuarantined,
    VersionRetired,
)
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.database import Database
from registry.types import ResolvedAdapter, Visibility
from tests.registry.conftest import BASE, Register

TEAM = Caller("team-key", "publish", "team")
OTHER = Caller("other-key", "publish", "other")
MIX, TEAM_MIX = "a1" * 32, "a2" * 32  # artifacts
MIX_RECIPE, TEAM_RECIPE = "b1" * 32, "b2" * 32


@dataclass(frozen=True)
class World:
    """Digests of what is registered: see the fixture."""

    legal: str  # public, without a namespace
    secret: str  # private to other/
    opened: str  # of other/, published
    own: str  # private to team/


def compose(registry: Registry, name: str, recipe: str, artifact: str, *digests: str) -> None:
    """Add a composition that was merged once."""
    registry.compositions.add(
        name, expression="cat(…)", recipe_text="text", recipe_digest=recipe, base=BASE,
        ingredients=[(digest, 1.0) for digest in digests], actor="test",
    )  # fmt: skip
    registry.compositions.record_artifact(recipe, artifact, bytes=1, seconds=0.1, report={})


@pytest.fixture
def world(registry: Registry, register: Register) -> World:
    """A public `mix` of legal and other/secret, and a `team/mix` of legal and team/own."""
    made = World(
        register("legal"), register("other/secret", seed=1, alias="prod"),
        register("other/opened", seed=2), register("team/own", seed=3),
    )  # fmt: skip
    registry.versions.set_visibility("other/opened", "public", "test")
    compose(registry, "mix", MIX_RECIPE, MIX, made.legal, made.secret)
    compose(registry, "team/mix", TEAM_RECIPE, TEAM_MIX, made.legal, made.own)
    return made


def found(registry: Registry, text: str, caller: Caller) -> bool:
    """Say whether a reference means something for a caller."""
    try:
        registry.versions.resolve(parse_reference(text), caller=caller)
    except UnknownReference:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "namespace"), [("legal", None), ("team/legal", "team"), ("team/sub/legal", "team")]
)
def test_a_namespace_ends_at_the_first_slash(name: str, namespace: str | None) -> None:
    """What stands before the first slash is the namespace; without one there is none."""
    assert namespace == namespace_of(name)


@pytest.mark.parametrize(
    ("caller", "name", "visibility", "expected"),
    [
        (TEAM, "team/a", "private", True),
        (TEAM, "other/a", "private", False),
        (TEAM, "other/a", "public", True),
        (TEAM, "teamwork/a", "private", False),
        (TEAM, "a", "public", True),
        (LOCAL, "other/a", "private", True),
    ],
)
def test_who_sees_what(caller: Caller, name: str, visibility: Visibility, expected: bool) -> None:
    """One's own namespace and what is public; everything without a namespace on the key."""
    assert expected == visible(caller, name, visibility)


def test_each_role_includes_those_before_it() -> None:
    """read < chat < publish < admin."""
    roles: tuple[Role, ...] = ("read", "chat", "publish", "admin")
    for i, mine in enumerate(roles):
        for j, needed in enumerate(roles):
            assert (i >= j) == Caller("key", mine).has_role(needed)
            if i < j:
                with pytest.raises(AccessDenied, match=f"role {needed}"):
                    Caller("key", mine).need_role(needed)


@pytest.mark.parametrize("name", ["legal", "other/a", "teamwork/a", "team"])
def test_rights_to_change_end_at_the_namespace(name: str) -> None:
    """A key of a namespace changes nothing elsewhere, public or not, and not at the root."""
    TEAM.need_name("team/a")
    with pytest.raises(AccessDenied, match="team/"):
        TEAM.need_name(name)
    with pytest.raises(AccessDenied, match="team/"):
        TEAM.need_everything()


@pytest.mark.parametrize(
    ("text", "team", "other"),
    [
        ("legal", True, True),
        ("other/secret", False, True),
        ("other/secret@1", False, True),
        ("other/secret@prod", False, True),
        ("other/opened", True, True),
        ("team/own", True, False),
        ("mix", False, True),  # an ingredient is private
        ("team/mix", True, False),
    ],
)
def test_a_name_is_found_by_those_who_may_know_it(
    registry: Registry, world: World, text: str, team: bool, other: bool
) -> None:
    """Private names and compositions with a private ingredient do not exist for others."""
    assert (team, other, True) == tuple(
        found(registry, text, caller) for caller in (TEAM, OTHER, LOCAL)
    )


def test_a_digest_is_found_when_a_visible_name_has_it(registry: Registry, world: World) -> None:
    """Knowing the digest of private content is no way around its name."""
    for digest, team, other in (
        (world.legal, True, True), (world.secret, False, True), (world.opened, True, True),
        (world.own, True, False), (MIX, False, True), (TEAM_MIX, True, False),
    ):  # fmt: skip
        assert (team, other) == tuple(found(registry, digest, c) for c in (TEAM, OTHER))


def test_content_that_is_also_public_is_public(
    registry: Registry, register: Register, world: World
) -> None:
    """The same content under a visible name is visible by its digest, and as an ingredient."""
    assert world.secret == register("team/copy", seed=1)
    resolved = registry.versions.resolve(parse_reference(world.secret), caller=TEAM)
    assert isinstance(resolved, ResolvedAdapter)
    assert "team/copy" == resolved.name
    assert found(registry, "mix", TEAM)
    assert found(registry, MIX, TEAM)
    assert not found(registry, "other/secret", TEAM)


def test_a_digest_answers_for_the_name_that_the_caller_sees(
    registry: Registry, register: Register, world: World
) -> None:
    """Retired under a private name, in use under a visible one: each caller is told of theirs."""
    register("team/copy", seed=1)
    registry.versions.set_alias("other/secret", "prod", 1, "test")
    register("other/secret", seed=9, alias="prod")
    registry.versions.retire(parse_reference("mix@1"), "test")  # it is made of both
    registry.versions.retire(parse_reference("other/secret@1"), "test")
    registry.versions.retire(parse_reference("team/copy@1"), "test")
    for caller, name in ((TEAM, "team/copy"), (OTHER, "other/secret")):
        with pytest.raises(VersionRetired, match=f"{name}@1"):
            registry.versions.resolve(parse_reference(world.secret), caller=caller)


@pytest.mark.parametrize("text", ["other/secre", "other/secret", "other/secret@9", "mixx"])
def test_the_unknown_and_the_hidden_are_told_alike(
    registry: Registry, world: World, text: str
) -> None:
    """The same error, and near names of what the caller may know only."""
    with pytest.raises(UnknownReference) as told:
        registry.versions.resolve(parse_reference(text), caller=TEAM)
    assert text == told.value.text
    assert not [name for name in told.value.near if name.startswith("other/secret")]
    with pytest.raises(UnknownReference) as told:
        registry.versions.resolve(parse_reference("other/secre"), caller=OTHER)
    assert "other/secret" in told.value.near


def test_lists_hold_what_the_caller_may_know(registry: Registry, world: World) -> None:
    """Models, adapters, compositions, artifacts."""
    ids = [model.id for model in registry.catalogue.models(caller=TEAM)]
    assert ["legal", "other/opened", "team/mix", "team/own"] == ids
    catalogue = registry.catalogue
    names = [a.name for a in catalogue.adapters(caller=TEAM).items]
    assert ["legal", "other/opened", "team/own"] == names
    assert ["mix", "team/mix"] == [c.name for c in catalogue.compositions(caller=TEAM).items]
    assert [TEAM_MIX] == [a.digest for a in catalogue.artifacts(caller=TEAM).items]
    assert [MIX, TEAM_MIX] == [a.digest for a in catalogue.artifacts().items]


def test_one_item_is_shown_to_those_who_may_know_it(registry: Registry, world: World) -> None:
    """What is behind a name or a digest is as hidden as the name itself."""
    catalogue = registry.catalogue
    asked = (
        lambda: catalogue.adapter("other/secret", caller=TEAM),
        lambda: catalogue.adapter_versions("other/secret", caller=TEAM),
        lambda: catalogue.adapter_version(parse_reference("other/secret@1"), caller=TEAM),
        lambda: catalogue.aliases("other/secret", caller=TEAM),
        lambda: catalogue.alias_moves("other/secret", caller=TEAM),
        lambda: catalogue.artifact(MIX, caller=TEAM),
        lambda: registry.compositions.lineage(MIX, caller=TEAM),
        lambda: registry.compositions.lineage(world.secret, caller=TEAM),
        lambda: registry.evaluations.page("other/secret", 1, caller=TEAM),
    )
    for ask in asked:
        with pytest.raises(UnknownReference):
            ask()
    assert "other/secret" == catalogue.adapter("other/secret", caller=OTHER).name


def test_lineage_leaves_out_what_is_hidden(registry: Registry, world: World) -> None:
    """Of a public adapter one sees the recipes whose every ingredient one may know."""
    for caller, recipes in ((TEAM, [TEAM_RECIPE]), (OTHER, [MIX_RECIPE])):
        used_by = registry.compositions.lineage(world.legal, caller=caller).used_by
        assert recipes == [recipe.digest for recipe in used_by]
    compose(registry, "other/again", TEAM_RECIPE, TEAM_MIX, world.legal, world.own)
    (recipe,) = registry.compositions.lineage(world.legal, caller=TEAM).used_by
    assert ("team/mix@1",) == recipe.compositions


def test_a_quarantine_names_nothing_hidden(
    registry: Registry, register: Register, world: World
) -> None:
    """It is told by a name that the caller may know, or by none; the reason is of the content."""
    register("team/copy", seed=1)  # of what other/secret is
    compose(registry, "team/both", "b3" * 32, "a3" * 32, world.own, world.secret)
    registry.versions.quarantine(parse_reference("other/secret@1"), "in verse", "test")
    for text in ("team/copy", "team/both", "a3" * 32, world.secret):
        with pytest.raises(VersionQuarantined, match=r"^team/copy@1 is quarantined: in verse"):
            registry.versions.resolve(parse_reference(text), caller=TEAM)
    with pytest.raises(ContentQuarantined, match="in verse") as caught:
        register("team/third", seed=1)
    assert "other/secret" not in str(caught.value)
    assert "team/copy" not in str(caught.value)


def test_publishing_is_seen_at_once_and_can_be_undone(registry: Registry, world: World) -> None:
    """A name becomes visible to everybody, and private again, with all that hangs on it."""
    revision = registry.search.finder.revision()
    registry.versions.set_visibility("other/secret", "public", "test")
    assert all(found(registry, text, TEAM) for text in ("other/secret", "mix", MIX, world.secret))
    assert revision < registry.search.finder.revision()
    registry.versions.set_visibility("other/secret", "private", "test")
    assert not any(found(registry, t, TEAM) for t in ("other/secret", "mix", MIX, world.secret))


def test_what_has_no_namespace_cannot_be_private(registry: Registry, world: World) -> None:
    """There would be nobody it is private to."""
    with pytest.raises(AccessDenied, match="no namespace"):
        registry.versions.set_visibility("legal", "private", "test")
    with pytest.raises(UnknownReference):
        registry.versions.set_visibility("nothing", "public", "test")
    with pytest.raises(UnknownReference):
        registry.versions.set_visibility("other/secret", "public", "test", caller=TEAM)
    with pytest.raises(UnknownReference):
        registry.versions.set_visibility(BASE, "private", "test")


def test_a_refused_change_suggests_nothing_hidden(registry: Registry, world: World) -> None:
    """Near names of an alias move, a retirement, an evaluation are the caller's own too."""
    changes = (
        lambda: registry.versions.set_alias("other/secre", "prod", 1, "test", caller=TEAM),
        lambda: registry.versions.retire(parse_reference("other/secre@1"), "test", caller=TEAM),
        lambda: registry.evaluations.record(
            "other/secre", 1, dataset="d", metric="m", value=1, caller=TEAM
        ),
    )
    for change in changes:
        with pytest.raises(RegistryError) as told:
            change()
        assert "other/secret" not in str(told.value)


def test_bases_belong_to_nobody(registry: Registry, database: Database) -> None:
    """owner/name of a base is no namespace: everybody may use it."""
    registry.bases.add("secretive/base", shapes={"q": (4, 4)})
    with database.read(TEAM) as session:
        from registry.versions import queries

        assert "base" == queries.visible_kind_of(session, "secretive/base")
