"""Recipes: one text, one digest; and plans, which decide everything left open."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import IncompatibleAdapters, RecipeInvalid
from merge.recipe import Ingredient, Member, ModuleShape, Recipe, plan

A, B, C = "a" * 64, "b" * 64, "c" * 64
Q = "model.layers.0.self_attn.q_proj"
V = "model.layers.0.self_attn.v_proj"

RECIPE = Recipe(
    method="lego",
    revision=1,
    base="meta-llama/Llama-3.1-8B-Instruct",
    ingredients=(Ingredient(A, 0.7), Ingredient(B, -0.5)),
    options=(("rank", 16), ("reference_rank", None), ("scale", 1.0), ("seed", 0)),
    dtype="bfloat16",
)
CANONICAL = (
    '{"base":"meta-llama/Llama-3.1-8B-Instruct","dtype":"bfloat16","ingredients":['
    f'{{"digest":"{A}","weight":0.7}},{{"digest":"{B}","weight":-0.5}}],"method":"lego",'
    '"options":{"rank":16,"reference_rank":null,"scale":1.0,"seed":0},"revision":1,"weft":1}'
)


def member(
    label: str = "legal",
    digest: str = A,
    weight: float = 1.0,
    *,
    base: str = "llama",
    **ranks: int,
) -> Member:
    """Return a member with modules q and v of the given ranks (q=8 by default)."""
    names = {"q": Q, "v": V}
    modules = {
        names[key]: ModuleShape(rank, 64, 32, "linear") for key, rank in (ranks or {"q": 8}).items()
    }
    return Member(label, digest, weight, base, modules)


def planned(method: str, *members: Member, limit: int | None = 64, **options: object) -> Recipe:
    """Plan on the base "llama" in bfloat16."""
    return plan(method, members, options=options, base="llama", dtype="bfloat16", rank_limit=limit)


def rank_of(recipe: Recipe) -> object:
    """Return the decided rank."""
    return dict(recipe.options)["rank"]


def test_canonical_text_is_fixed() -> None:
    """The text is compact JSON with sorted keys, floats as Python writes them."""
    assert CANONICAL == RECIPE.canonical()


def test_digest_is_golden() -> None:
    """A recipe's digest never changes between releases: artifacts are found by it."""
    expected = "46c82abba762846e24ada61eabab5befb3f58115500c730893eb3d3a5f56abe8"
    assert expected == RECIPE.digest()


def test_text_reads_back() -> None:
    """`parse` is the inverse of `canonical`, also with a closing newline."""
    assert RECIPE == Recipe.parse(RECIPE.canonical())
    assert RECIPE == Recipe.parse(RECIPE.canonical() + "\n")


@pytest.mark.parametrize(
    "change",
    [
        {"method": "cat"}, {"revision": 2}, {"base": "other"}, {"dtype": "float32"},
        {"ingredients": RECIPE.ingredients[::-1]}, {"ingredients": RECIPE.ingredients[:1]},
        {"ingredients": (Ingredient(A, 0.7), Ingredient(B, 0.5))},
        {"options": (("rank", 17), *RECIPE.options[1:])},
    ],
)  # fmt: skip
def test_any_difference_is_another_digest(change: dict[str, Any]) -> None:
    """Recipes that differ in anything, order included, have different digests."""
    assert RECIPE.digest() != replace(RECIPE, **change).digest()


def test_minus_zero_is_zero() -> None:
    """Weights 0.0 and -0.0 are one weight."""
    texts = {
        replace(RECIPE, ingredients=(Ingredient(A, 1.0), Ingredient(B, zero))).canonical()
        for zero in (0.0, -0.0)
    }
    assert 1 == len(texts)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"weft":1', '"weft":2'), (',"weft":1', ""), ('"revision":1', '"revision":"1"'),
        ('"revision":1', '"revision":1,"extra":2'), ("0.7", "NaN"), ("0.7", "1e999"), ("0.7", "1"),
        ("0.7", '"0.7"'), ("0.7", "1" * 400), ('"weight":-0.5', '"weight":-0.5,"x":1'), (A, "a"),
        (A, A.upper()), (A, A + "\\n"), ("bfloat16", "int8"), ('"rank":16', '"rank":[16]'),
        ('"rank":16', '"rank":NaN'), ('"rank":16', '"rank":16,"rank":17'), ("null", "{}"),
        ('"method":"lego"', '"method":null'), ("{", "[", ), ('"base":', '"base" :'),
    ],
)  # fmt: skip
def test_junk_is_refused(old: str, new: str) -> None:
    """A text that is not exactly some recipe's canonical text is RecipeInvalid."""
    with pytest.raises(RecipeInvalid):
        Recipe.parse(CANONICAL.replace(old, new, 1))


@given(st.one_of(st.text(), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(json.dumps)))  # fmt: skip
def test_any_text_is_a_recipe_or_refused(text: str) -> None:
    """Whatever the text, parsing ends in RecipeInvalid, never in another error."""
    with pytest.raises(RecipeInvalid):
        Recipe.parse(text)


def test_deep_nesting_is_refused() -> None:
    """A text nested beyond the parser's depth is refused like any other junk."""
    with pytest.raises(RecipeInvalid):
        Recipe.parse("[" * 100_000)


def test_plan_fills_everything_in() -> None:
    """A plan holds every default, the resolved rank, the revision, base and dtype."""
    recipe = planned("lego", member(q=8), member("b", B, 2, q=16), seed="5")
    expected = {
        "n_init": 10, "output_reweighting": True, "parameter_reweighting": True, "rank": 16,
        "reference_rank": None, "scale": 1.0, "seed": 5,
    }  # fmt: skip
    assert expected == dict(recipe.options)
    assert (Ingredient(A, 1.0), Ingredient(B, 2.0)) == recipe.ingredients
    assert ("llama", "bfloat16", 1) == (recipe.base, recipe.dtype, recipe.revision)
    assert recipe == Recipe.parse(recipe.canonical())


def test_text_and_number_options_are_one_recipe() -> None:
    """`rank=16` from an expression and 16 from JSON give the same digest."""
    texts = {planned("lego", member(), rank=rank, scale=scale).digest()
             for rank, scale in (("16", "2"), (16, 2), (16.0, 2.0))}  # fmt: skip
    assert 1 == len(texts)


@pytest.mark.parametrize(
    ("method", "limit", "expected"),
    [
        ("linear", 64, 24),
        ("linear", None, 24),
        ("linear", 20, 20),
        ("lego", 64, 16),
        ("lego", 4, 4),
    ],
)
def test_automatic_rank(method: str, limit: int | None, expected: int) -> None:
    """`auto` is the largest module's sum of ranks for linear, the largest rank for lego, within
    the engine's limit.
    """
    members = member(q=16, v=4), member("b", B, q=8, v=12)
    assert expected == rank_of(planned(method, *members, limit=limit))
    assert expected == rank_of(planned(method, *members, limit=limit, rank="auto"))


def test_zero_weight_members_do_not_count_for_the_rank() -> None:
    """A member at weight 0 stays in the recipe and out of the rank."""
    recipe = planned("linear", member(q=8), member("b", B, 0.0, q=50))
    assert 8 == rank_of(recipe)
    assert 2 == len(recipe.ingredients)


def refuses(error: type[Exception], match: str, method: str, *members: Member, **kw: Any) -> None:
    """Check that a plan is refused."""
    with pytest.raises(error, match=match):
        planned(method, *members, **kw)


def test_rank_above_the_limit_is_refused() -> None:
    """A rank that the engine cannot hold is refused, naming the limit."""
    refuses(RecipeInvalid, "rank 65 is above the engine's limit: at most 64", "lego", member(),
            rank=65)  # fmt: skip


def test_cat_above_the_limit_says_what_to_use() -> None:
    """`cat` whose ranks add up beyond the limit says rank, module, limit and the way out."""
    refuses(
        RecipeInvalid, rf"up to 24 in {Q}.*limit of 16: use linear\(\.\.\.; rank=16\)",
        "cat", member(q=16, v=1), member("b", B, q=8), limit=16,
    )  # fmt: skip
    assert planned("cat", member(q=16), member("b", B, 0.0, q=8), limit=16)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf")])
def test_weights_must_be_finite(weight: float) -> None:
    """A weight that is no finite number is refused."""
    refuses(RecipeInvalid, "not a finite number", "cat", member(weight=weight))


def test_nothing_to_merge_is_refused() -> None:
    """No member, or members at weight 0 only, is an invalid recipe."""
    refuses(RecipeInvalid, "at least one adapter", "cat")
    refuses(RecipeInvalid, "every weight is 0", "cat", member(weight=0.0), member("b", B, -0.0))


def test_unknown_names_are_refused() -> None:
    """Unknown methods and options are refused with what there is."""
    refuses(RecipeInvalid, "did you mean linear", "liner", member())
    refuses(RecipeInvalid, "it takes rank, seed", "lego", member(), density=0.5)


def test_unknown_dtype_is_refused() -> None:
    """A dtype that weft does not write is refused with those that it does."""
    with pytest.raises(RecipeInvalid, match="float32, float16, bfloat16"):
        plan("cat", [member()], options={}, base="llama", dtype="float8", rank_limit=None)


def test_bases_must_agree() -> None:
    """Members of different bases are incompatible, and both are named."""
    refuses(
        IncompatibleAdapters, "poet was trained for the base qwen, legal for llama",
        "cat", member(), member("poet", B, base="qwen"),
    )  # fmt: skip
    refuses(IncompatibleAdapters, "legal was .* qwen, the merge is for llama", "cat",
            member(base="qwen"))  # fmt: skip


def test_shapes_must_agree() -> None:
    """Members whose shapes differ in a module are incompatible: labels, module, both shapes."""
    wide = Member("poet", B, 1.0, "llama", {Q: ModuleShape(8, 128, 32, "linear")})
    refuses(
        IncompatibleAdapters, rf"legal and poet do not fit in {Q}: .*\(32, 64\).*\(32, 128\)",
        "lego", member(), wide,
    )  # fmt: skip
    tied = Member("poet", B, 1.0, "llama", {Q: ModuleShape(8, 64, 32, "embedding")})
    refuses(IncompatibleAdapters, "linear against .* embedding", "cat", member(), tied)


def test_module_sets_may_differ() -> None:
    """Members need not have the same modules, nor any in common."""
    recipe = planned("linear", member(q=8), member("b", B, v=12), member("c", C, q=4, v=4))
    assert 16 == rank_of(recipe)
