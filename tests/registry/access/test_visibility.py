"""Names that are private to a namespace do not exist for callers of another one."""

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
    """The digests of the registered adapters; see the fixture."""

    legal: str  # public, without a namespace
    secret: str  # private to other/
    opened: str  # published by other/
    own: str  # private to team/


def compose(registry: Registry, name: str, recipe: str, artifact: str, *digests: str) -> None:
    """Add a composition with an artifact."""
    registry.compositions.add(
        name, expression="cat(…)", recipe_text="text", recipe_digest=recipe, base=BASE,
        ingredients=[(digest, 1.0) for digest in digests], actor="test",
    )  # fmt: skip
    registry.compositions.record_artifact(recipe, artifact, bytes=1, seconds=0.1, report={})


@pytest.fixture
def world(registry: Registry, register: Register) -> World:
    """Register a public `mix` of legal and other/secret, and a `team/mix` of legal and team/own."""
    made = World(
        register("legal"), register("other/secret", seed=1, alias="prod"),
        register("other/opened", seed=2), register("team/own", seed=3),
    )  # fmt: skip
    registry.versions.set_visibility("other/opened", "public", "test")
    compose(registry, "mix", MIX_RECIPE, MIX, made.legal, made.secret)
    compose(registry, "team/mix", TEAM_RECIPE, TEAM_MIX, made.legal, made.own)
    return made


def resolves(registry: Registry, text: str, caller: Caller) -> bool:
    """Return whether a reference resolves for a caller."""
    try:
        registry.versions.resolve(parse_reference(text), caller=caller)
    except UnknownReference:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "namespace"), [("legal", None), ("team/legal", "team"), ("team/sub/legal", "team")]
)
def test_a_namespace_ends_at_the_first_slash(name: str, namespace: str | None) -> None:
    """The namespace is the part before the first slash; a name without a slash has none."""
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
    """A key of a namespace sees its namespace and public names; a key without one sees all."""
    assert expected == visible(caller, name, visibility)


def test_each_role_includes_those_before_it() -> None:
    """Each role includes the roles before it: read < chat < publish < admin."""
    roles: tuple[Role, ...] = ("read", "chat", "publish", "admin")
    for i, mine in enumerate(roles):
        for j, needed in enumerate(roles):
            assert (i >= j) == Caller("key", mine).has_role(needed)
            if i < j:
                with pytest.raises(AccessDenied, match=f"role {needed}"):
                    Caller("key", mine).need_role(needed)


@pytest.mark.parametrize("name", ["legal", "other/a", "teamwork/a", "team"])
def test_rights_to_change_end_at_the_namespace(name: str) -> None:
    """A key of a namespace cannot change names in other namespaces or without a namespace."""
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
    """Private names and compositions with a private ingredient do not exist for other callers."""
    assert (team, other, True) == tuple(
        resolves(registry, text, caller) for caller in (TEAM, OTHER, LOCAL)
    )


def test_a_digest_is_found_when_a_visible_name_has_it(registry: Registry, world: World) -> None:
    """The digest of private content does not resolve for other callers."""
    for digest, team, other in (
        (world.legal, True, True), (world.secret, False, True), (world.opened, True, True),
        (world.own, True, False), (MIX, False, True), (TEAM_MIX, True, False),
    ):  # fmt: skip
        assert (team, other) == tuple(resolves(registry, digest, c) for c in (TEAM, OTHER))


def test_content_that_is_also_public_is_public(
    registry: Registry, register: Register, world: World
) -> None:
    """Private content under a visible name is visible by its digest and as an ingredient."""
    assert world.secret == register("team/copy", seed=1)
    resolved = registry.versions.resolve(parse_reference(world.secret), caller=TEAM)
    assert isinstance(resolved, ResolvedAdapter)
    assert "team/copy" == resolved.name
    assert resolves(registry, "mix", TEAM)
    assert resolves(registry, MIX, TEAM)
    assert not resolves(registry, "other/secret", TEAM)


def test_a_digest_answers_for_the_name_that_the_caller_sees(
    registry: Registry, register: Register, world: World
) -> None:
    """The error for a retired digest names the version that is visible to the caller."""
    register("team/copy", seed=1)
    registry.versions.set_alias("other/secret", "prod", 1, "test")
    register("other/secret", seed=9, alias="prod")
    registry.versions.retire(parse_reference("mix@1"), "test")  # its ingredients include both
    registry.versions.retire(parse_reference("other/secret@1"), "test")
    registry.versions.retire(parse_reference("team/copy@1"), "test")
    for caller, name in ((TEAM, "team/copy"), (OTHER, "other/secret")):
        with pytest.raises(VersionRetired, match=f"{name}@1"):
            registry.versions.resolve(parse_reference(world.secret), caller=caller)


@pytest.mark.parametrize("text", ["other/secre", "other/secret", "other/secret@9", "mixx"])
def test_the_unknown_and_the_hidden_are_told_alike(
    registry: Registry, world: World, text: str
) -> None:
    """The error is the same, and its similar names are visible to the caller."""
    with pytest.raises(UnknownReference) as caught:
        registry.versions.resolve(parse_reference(text), caller=TEAM)
    assert text == caught.value.text
    assert not [name for name in caught.value.near if name.startswith("other/secret")]
    with pytest.raises(UnknownReference) as caught:
        registry.versions.resolve(parse_reference("other/secre"), caller=OTHER)
    assert "other/secret" in caught.value.near


def test_lists_hold_what_the_caller_may_know(registry: Registry, world: World) -> None:
    """Models, adapters, compositions and artifacts are listed only if they are visible."""
    ids = [model.id for model in registry.catalogue.models(caller=TEAM)]
    assert ["legal", "other/opened", "team/mix", "team/own"] == ids
    catalogue = registry.catalogue
    names = [a.name for a in catalogue.adapters(caller=TEAM).items]
    assert ["legal", "other/opened", "team/own"] == names
    assert ["mix", "team/mix"] == [c.name for c in catalogue.compositions(caller=TEAM).items]
    assert [TEAM_MIX] == [a.digest for a in catalogue.artifacts(caller=TEAM).items]
    assert [MIX, TEAM_MIX] == [a.digest for a in catalogue.artifacts().items]


def test_one_item_is_shown_to_those_who_may_know_it(registry: Registry, world: World) -> None:
    """Details of an invisible name or digest are unknown references."""
    catalogue = registry.catalogue
    reads = (
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
    for read in reads:
        with pytest.raises(UnknownReference):
            read()
    assert "other/secret" == catalogue.adapter("other/secret", caller=OTHER).name


def test_lineage_leaves_out_what_is_hidden(registry: Registry, world: World) -> None:
    """The lineage of a public adapter has only recipes whose ingredients are all visible."""
    for caller, recipes in ((TEAM, [TEAM_RECIPE]), (OTHER, [MIX_RECIPE])):
        used_by = registry.compositions.lineage(world.legal, caller=caller).used_by
        assert recipes == [recipe.digest for recipe in used_by]
    compose(registry, "other/again", TEAM_RECIPE, TEAM_MIX, world.legal, world.own)
    (recipe,) = registry.compositions.lineage(world.legal, caller=TEAM).used_by
    assert ("team/mix@1",) == recipe.compositions


def test_a_quarantine_names_nothing_hidden(
    registry: Registry, register: Register, world: World
) -> None:
    """The error names a visible version, or neither a version nor a reason."""
    register("team/copy", seed=1)  # the content of other/secret
    compose(registry, "team/both", "b3" * 32, "a3" * 32, world.own, world.secret)
    registry.versions.quarantine(parse_reference("other/secret@1"), "in verse", "test")
    for text in ("team/copy", "team/both", "a3" * 32, world.secret):
        with pytest.raises(VersionQuarantined, match=r"^team/copy@1 is quarantined: in verse"):
            registry.versions.resolve(parse_reference(text), caller=TEAM)
    with pytest.raises(ContentQuarantined, match="quarantined") as caught:
        register("team/third", seed=1)
    assert "in verse" not in str(caught.value)
    assert "other/secret" not in str(caught.value)
    assert "team/copy" not in str(caught.value)


def test_publishing_is_seen_at_once_and_can_be_undone(registry: Registry, world: World) -> None:
    """A published name and its dependents are visible to all callers, until it is private."""
    revision = registry.search.finder.revision()
    registry.versions.set_visibility("other/secret", "public", "test")
    assert all(
        resolves(registry, text, TEAM) for text in ("other/secret", "mix", MIX, world.secret)
    )
    assert revision < registry.search.finder.revision()
    registry.versions.set_visibility("other/secret", "private", "test")
    assert not any(resolves(registry, t, TEAM) for t in ("other/secret", "mix", MIX, world.secret))


def test_what_has_no_namespace_cannot_be_private(registry: Registry, world: World) -> None:
    """A name without a namespace cannot be private."""
    with pytest.raises(AccessDenied, match="no namespace"):
        registry.versions.set_visibility("legal", "private", "test")
    with pytest.raises(UnknownReference):
        registry.versions.set_visibility("nothing", "public", "test")
    with pytest.raises(UnknownReference):
        registry.versions.set_visibility("other/secret", "public", "test", caller=TEAM)
    with pytest.raises(UnknownReference):
        registry.versions.set_visibility(BASE, "private", "test")


def test_a_refused_change_suggests_nothing_hidden(registry: Registry, world: World) -> None:
    """Errors of an alias, a retirement and an evaluation list only visible similar names."""
    changes = (
        lambda: registry.versions.set_alias("other/secre", "prod", 1, "test", caller=TEAM),
        lambda: registry.versions.retire(parse_reference("other/secre@1"), "test", caller=TEAM),
        lambda: registry.evaluations.record(
            "other/secre", 1, dataset="d", metric="m", value=1, caller=TEAM
        ),
    )
    for change in changes:
        with pytest.raises(RegistryError) as caught:
            change()
        assert "in verse" not in str(caught.value)
    assert "other/secret" not in str(caught.value)


def test_bases_have_no_namespace(registry: Registry, database: Database) -> None:
    """The owner in owner/name of a base is not a namespace, so all callers see the base."""
    registry.bases.add("secretive/base", shapes={"q": (4, 4)})
    with database.read(TEAM) as session:
        from registry.versions import queries

        assert "base" == queries.visible_kind_of(session, "secretive/base")
