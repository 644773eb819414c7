"""From a `model` field to a target: the result for each kind of name, and the refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest

from merge.errors import IncompatibleAdapters, RecipeInvalid
from registry.errors import UnknownReference
from registry.service import Registry
from server.compose.expression import ExpressionInvalid
from server.compose.resolve import (
    Bare,
    NotAnIngredient,
    Planned,
    RankTooLarge,
    Resolver,
    Stored,
    WrongBase,
)
from server.gateway import Gateway
from server.served_bases import ServedBase, ServedBases
from tests.adapters import make_adapter
from tests.server.conftest import BASE, MakeSettings
from tests.serving import serving

DigestOf = Callable[[str], str]


@pytest.fixture
def resolver(registry: Registry, make_settings: MakeSettings) -> Resolver:
    """A resolver for the demo base, served under another name."""
    served = ServedBase(BASE, make_settings(served_base="served"))
    return Resolver(registry, ServedBases([served]))


@pytest.fixture
def small(registry: Registry, make_settings: MakeSettings) -> Resolver:
    """A resolver for an engine that loads adapters of rank 8 at most."""
    return Resolver(registry, serving(make_settings(max_lora_rank=8)))


@pytest.mark.parametrize("text", ["served", BASE])
def test_the_base_is_bare_by_either_name(resolver: Resolver, text: str) -> None:
    """The served name and the registered name both resolve to the base."""
    assert Bare(BASE) == resolver.resolve(text)


@pytest.mark.parametrize("text", ["zorp", "zorp@1", "zorp@prod"])
def test_an_adapter_is_stored(resolver: Resolver, digest_of: DigestOf, text: str) -> None:
    """A reference to an adapter resolves to its version's digest, without a recipe."""
    assert Stored(digest_of("zorp"), BASE) == resolver.resolve(text)


def test_an_expression_is_planned(resolver: Resolver, digest_of: DigestOf) -> None:
    """Ingredients are digests with weights in their order; dtype and base are the server's."""
    target = resolver.resolve("lego(2*zorp, -blim@prod; rank=8)")
    assert isinstance(target, Planned)
    recipe = target.recipe
    assert [(digest_of("zorp"), 2.0), (digest_of("blim"), -1.0)] == recipe.lineage
    assert ("lego", BASE, "float32", 8) == (
        recipe.method, recipe.base, recipe.dtype, dict(recipe.options)["rank"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "example"), [("lego", "lego(a, b)"), ("linear", "linear(a, b)"), ("auto", "(; k=3)")]
)
def test_a_method_without_ingredients_is_told_how_to_name_them(
    resolver: Resolver, method: str, example: str
) -> None:
    """A bare method that is not an adapter's name is invalid, and the message has an example."""
    with pytest.raises(ExpressionInvalid) as caught:
        resolver.resolve(method)
    assert example in str(caught.value)
    assert len(method) == caught.value.position


def test_an_adapter_may_have_a_method_s_name(
    resolver: Resolver, registry: Registry, demo_adapters: Path, digest_of: DigestOf
) -> None:
    """An adapter with a method's name resolves to the adapter."""
    registry.adapters.register(demo_adapters / "zorp", name="lego", base=BASE)
    assert Stored(digest_of("zorp"), BASE) == resolver.resolve("lego")


def test_sugar_and_call_are_one_recipe(resolver: Resolver) -> None:
    """`0.7*a + 0.3*b` and its `linear` have one digest, so one artifact."""
    sugar, call = (
        resolver.resolve("0.7*zorp + 0.3*blim"),
        resolver.resolve("linear(0.7*zorp, 0.3*blim)"),
    )
    assert sugar == call


@pytest.mark.parametrize(
    ("expression", "name", "value"),
    [
        ("lego(zorp, blim; scale=match)", "scale", "match"),
        ("linear(zorp, blim; energy=0.95)", "energy", 0.95),
        ("linear(zorp, blim; energy=none)", "energy", None),
        ("slerp(zorp, blim; t=0.25)", "t", 0.25),
        ("average_factors(zorp, blim; split=full)", "split", "full"),
        ("compress(plov; rank=2)", "rank", 2),
    ],
)
def test_every_kind_of_option_binds_from_an_expression(
    resolver: Resolver, expression: str, name: str, value: object
) -> None:
    """Words, numbers and none become the option's values in the recipe."""
    target = resolver.resolve(expression)
    assert isinstance(target, Planned)
    assert value == dict(target.recipe.options)[name]


def test_members_that_a_method_cannot_merge_are_named(resolver: Resolver) -> None:
    """A method's requirements are checked before the build, and the error has the written
    references.
    """
    with pytest.raises(RecipeInvalid, match="not 3: zorp, blim@prod, tref have"):
        resolver.resolve("slerp(zorp, blim@prod, tref)")
    with pytest.raises(RecipeInvalid, match=r"above 0, not -1 \(blim in"):
        resolver.resolve("karcher(zorp, -blim)")


def test_the_automatic_rank_stays_within_the_engine_s(small: Resolver) -> None:
    """An automatic rank never exceeds the engine's limit."""
    target = small.resolve("zorp + plov")
    assert isinstance(target, Planned)
    assert dict(target.recipe.options)["rank"] == 8


def test_cat_above_the_engine_s_rank_is_refused(small: Resolver) -> None:
    """Ranks whose sum exceeds the limit are refused with a method that fits."""
    with pytest.raises(RecipeInvalid, match=r"linear\(\.\.\.; rank=8\)"):
        small.resolve("cat(zorp, blim)")


def test_an_adapter_above_the_engine_s_rank_is_refused(small: Resolver) -> None:
    """The refusal names the adapter's rank and the limit."""
    with pytest.raises(RankTooLarge, match="rank 16, and the engine's limit is 8"):
        small.resolve("plov")


def test_a_composition_is_planned_as_it_was_written(gateway: Gateway) -> None:
    """A composition keeps the versions of its publication when aliases move."""
    target = gateway.resolver.resolve("cat(zorp@prod, blim)")
    assert isinstance(target, Planned)
    _compose(gateway, target)
    assert target == gateway.resolver.resolve("mix")


def _compose(gateway: Gateway, target: Planned) -> None:
    recipe = target.recipe
    gateway.registry.compositions.add(
        "mix", expression="…", recipe_text=recipe.canonical(), recipe_digest=recipe.digest(),
        base=recipe.base, ingredients=recipe.lineage, actor="test",
    )  # fmt: skip


def test_a_composition_is_no_ingredient(gateway: Gateway) -> None:
    """A composition inside an expression is refused, and the error says that it is one."""
    target = gateway.resolver.resolve("cat(zorp, blim)")
    assert isinstance(target, Planned)
    _compose(gateway, target)
    with pytest.raises(NotAnIngredient, match="mix is a composition"):
        gateway.resolver.resolve("cat(mix, tref)")


async def test_an_artifact_comes_with_its_recipe(gateway: Gateway) -> None:
    """An artifact's digest resolves to the digest and its recipe."""
    target = gateway.resolver.resolve("cat(zorp, blim)")
    assert isinstance(target, Planned)
    digest = await gateway.builder.build(target.recipe)
    assert Stored(digest, BASE, target.recipe) == gateway.resolver.resolve(digest)


def test_another_base_is_refused(resolver: Resolver, registry: Registry, tmp_path: Path) -> None:
    """An adapter of another base is refused alone and in a merge, and both bases are named."""
    modules = {"model.layers.0.self_attn.q_proj": (16, 16)}
    registry.bases.add("acme/other", shapes=modules, architecture=None)
    folder = make_adapter(tmp_path / "foreign", modules=modules, base="acme/other")
    registry.adapters.register(folder, name="foreign")
    with pytest.raises(WrongBase, match=f"acme/other; this server serves {BASE}"):
        resolver.resolve("foreign")
    with pytest.raises(IncompatibleAdapters, match="acme/other"):
        resolver.resolve("cat(zorp, foreign)")


@pytest.mark.parametrize("text", ["zrop", "cat(zorp, zrop)", "2*zrop"])
def test_an_unknown_name_comes_with_near_ones(resolver: Resolver, text: str) -> None:
    """An unknown name is answered with similar names, wherever it stands."""
    with pytest.raises(UnknownReference) as caught:
        resolver.resolve(text)
    assert "zorp" in caught.value.near
