"""Policies in the registry: who is refused what, on both databases."""

from collections.abc import Sequence

import pytest

from registry.callers import Caller
from registry.errors import AccessDenied, CompositionDenied, PolicyInvalid, UnknownPolicy
from registry.references import parse_reference
from registry.service import Registry
from tests.registry.conftest import BASE, Register

RECIPE, ARTIFACT, SECOND = "a" * 64, "b" * 64, "c" * 64
OWNER = Caller("bob", "publish", "acme")


def deny(registry: Registry, *selectors: str) -> int:
    """Add a deny rule and return its number."""
    return registry.access.policies.add("deny", selectors, reason="not together").id


def merged(registry: Registry, recipe: str, artifact: str, ingredients: Sequence[str]) -> None:
    """Record that an artifact was made from ingredients."""
    weights = [(digest, 1.0) for digest in ingredients]
    registry.compositions.save_recipe("{}", recipe, BASE, weights)
    registry.compositions.record_artifact(recipe, artifact, bytes=1, seconds=1.0, report={})


def test_rules_are_kept_with_their_author(registry: Registry) -> None:
    """Rules are listed oldest first, the same rule is added once, and the log has each change."""
    policies = registry.access.policies
    first = policies.add("deny", ["tag:a", "namespace:b"], reason="why", actor="ada")
    second = policies.add("allow", ["any"], reason="because")
    assert first == policies.add("deny", ["tag:a", "namespace:b"], reason="other")
    page = policies.page(limit=1)
    assert (first,) == page.items
    assert (second,) == policies.page(cursor=page.next_cursor).items
    policies.remove(first.id, actor="ada")
    with pytest.raises(UnknownPolicy, match=f"no policy {first.id}"):
        policies.remove(first.id)
    log = registry.access.audit.page().items
    assert ["policy.removed", "policy.added", "policy.added"] == [c.action for c in log[:3]]
    assert ("ada", f"policy-{first.id}") == (log[0].actor, log[0].subject)
    assert ["tag:a", "namespace:b"] == log[0].detail["selectors"]


@pytest.mark.parametrize(
    ("selectors", "reason"),
    [([], "why"), (["any", "any", "any"], "why"), (["law"], "why"), (["any"], " "),
     (["any"], "x" * 501), (["any"], "a\nb")],
)  # fmt: skip
def test_malformed_rules_are_refused(registry: Registry, selectors: list[str], reason: str) -> None:
    """A rule has one or two selectors and a reason in one line."""
    with pytest.raises(PolicyInvalid):
        registry.access.policies.add("deny", selectors, reason=reason)


def test_a_merge_of_a_denied_pair_is_refused(registry: Registry, register: Register) -> None:
    """The error names the rule, its reason and the caller's own words, and no other names."""
    law, code = register("acme/law", seed=1), register("code", seed=2)
    number = deny(registry, "adapter:acme/law", "adapter:code")
    check = registry.access.policies.check
    check({law: "x@1"})
    with pytest.raises(
        CompositionDenied, match=f"^Policy {number} denies merging x@1 and y@2: not tog"
    ) as info:
        check({law: "x@1", code: "y@2"})
    assert "acme" not in str(info.value)


def test_a_second_name_does_not_evade_a_rule(registry: Registry, register: Register) -> None:
    """A content is refused under every name, if a rule matches one of its names."""
    digest = register("acme/wild", seed=1)
    assert digest == register("tame", seed=1)
    deny(registry, "namespace:acme")
    with pytest.raises(CompositionDenied):
        registry.access.policies.check({digest: "tame"})


def test_what_was_merged_before_is_refused(registry: Registry, register: Register) -> None:
    """A new rule reaches compositions, artifacts, published merges and merges of these."""
    law, code, other = (register(name, seed=i) for i, name in enumerate(("law", "code", "other")))
    merged(registry, RECIPE, ARTIFACT, [law, code])
    merged(registry, SECOND, other, [ARTIFACT])  # `other` is a published merge of a merge
    registry.compositions.add(
        "mix", expression="cat(law, code)", recipe_text="{}", recipe_digest=RECIPE, base=BASE,
        ingredients=[(law, 1.0), (code, 1.0)], actor="ada",
    )  # fmt: skip
    references = [*map(parse_reference, ("mix", ARTIFACT, "other"))]
    for reference in references:
        registry.versions.resolve(reference)
    number = deny(registry, "adapter:law", "adapter:code")
    for reference in references:
        with pytest.raises(CompositionDenied, match=f"merging {str(reference)[:10]}"):
            registry.versions.resolve(reference)
    with pytest.raises(CompositionDenied, match="merging o:"):
        registry.access.policies.check({other: "o"})
    registry.versions.resolve(parse_reference("law"))  # alone it is no composition
    registry.access.policies.remove(number)
    for reference in references:
        registry.versions.resolve(reference)


def test_a_denied_recipe_is_not_stored(registry: Registry, register: Register) -> None:
    """A denied recipe becomes neither a composition nor the recipe of an artifact."""
    law = register("law", seed=1)
    deny(registry, "adapter:law")
    with pytest.raises(CompositionDenied):
        merged(registry, RECIPE, ARTIFACT, [law])
    with pytest.raises(CompositionDenied):
        registry.compositions.add(
            "mix", expression="cat(law)", recipe_text="{}", recipe_digest=RECIPE, base=BASE,
            ingredients=[(law, 1.0)], actor="ada",
        )  # fmt: skip


def test_choices_avoid_what_is_denied(registry: Registry, register: Register) -> None:
    """A choice takes the best contents that may be merged with each other."""
    policies = registry.access.policies
    digests = [register(name, seed=i) for i, name in enumerate(("a", "b", "c", "d"))]
    assert tuple(digests[:2]) == policies.admissible(digests, 2)
    deny(registry, "adapter:a", "adapter:b")
    deny(registry, "adapter:c")
    assert (digests[0], digests[3]) == policies.admissible(digests, 3)
    assert {digests[0], digests[1], digests[3]} == policies.usable(digests)


def test_a_tag_of_a_rule_is_for_admins(registry: Registry, register: Register) -> None:
    """An owner changes tags, but for those that rules name: they would lift or make denials."""
    register("acme/law", seed=1)
    change = registry.search.descriptions.change_tags
    change("acme/law", add=["safe", "blue"], actor="bob", caller=OWNER)
    deny(registry, "tag:safe")
    change("acme/law", remove=["blue"], add=["safe"], actor="bob", caller=OWNER)
    for kind in ("publish", "admin"):
        caller = Caller("bob", kind, "acme")
        with pytest.raises(AccessDenied, match="the tag safe"):
            change("acme/law", remove=["safe"], actor="bob", caller=caller)
    assert ("red",) == change("acme/law", remove=["safe"], add=["red"], actor="ada")
