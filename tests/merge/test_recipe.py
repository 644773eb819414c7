"""Each recipe has one canonical text and one digest; planning decides every open value."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import IncompatibleAdapters, RecipeInvalid
from merge.methods import METHODS
from merge.recipe import Ingredient, Member, ModuleShape, Recipe, plan
from merge.weights import Patterns

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
    patterns: Patterns = (),
    **ranks: int,
) -> Member:
    """Return a member with modules q and v of the given ranks (q=8 by default)."""
    names = {"q": Q, "v": V}
    modules = {
        names[key]: ModuleShape(rank, 64, 32, "linear") for key, rank in (ranks or {"q": 8}).items()
    }
    return Member(label, digest, weight, base, modules, patterns)


def planned(method: str, *members: Member, limit: int | None = 64, **options: object) -> Recipe:
    """Plan on the base "llama" in bfloat16."""
    return plan(method, members, options=options, base="llama", dtype="bfloat16", rank_limit=limit)


def rank_of(recipe: Recipe) -> object:
    """Return the rank in the plan."""
    return dict(recipe.options)["rank"]


def test_canonical_text_is_fixed() -> None:
    """The text is compact JSON with sorted keys, floats as Python writes them."""
    assert CANONICAL == RECIPE.canonical()


def test_digest_is_golden() -> None:
    """A recipe's digest is the same in all releases, since artifacts are looked up by it."""
    expected = "46c82abba762846e24ada61eabab5befb3f58115500c730893eb3d3a5f56abe8"
    assert expected == RECIPE.digest()


def test_text_reads_back() -> None:
    """`parse` is the inverse of `canonical`, also with a trailing newline."""
    assert RECIPE == Recipe.parse(RECIPE.canonical())
    assert RECIPE == Recipe.parse(RECIPE.canonical() + "\n")


@pytest.mark.parametrize(
    "change",
    [
        {"method": "cat"}, {"revision": 2}, {"base": "other"}, {"dtype": "float32"},
        {"ingredients": RECIPE.ingredients[::-1]}, {"ingredients": RECIPE.ingredients[:1]},
        {"ingredients": (Ingredient(A, 0.7), Ingredient(B, 0.5))},
        {"options": (("rank", 17), *RECIPE.options[1:])},
        {"ingredients": (Ingredient(A, 0.7, (("*", 0.7),)), RECIPE.ingredients[1])},
    ],
)  # fmt: skip
def test_any_difference_is_another_digest(change: dict[str, Any]) -> None:
    """Recipes that differ in anything, including order, have different digests."""
    assert RECIPE.digest() != replace(RECIPE, **change).digest()


def test_patterns_are_in_the_text_in_their_order() -> None:
    """Weights by pattern are pairs after the weight, in order, since the last match counts; they
    parse back, and another order is another recipe.
    """
    pairs = (("*.mlp.*", 0.2), ("*.layers.0.*", 1.0))
    ingredients = (Ingredient(A, 0.7, pairs), Ingredient(B, -0.5))
    recipe = replace(RECIPE, ingredients=ingredients)
    modules = '"modules":[["*.mlp.*",0.2],["*.layers.0.*",1.0]],'
    expected = CANONICAL.replace('"weight":0.7', f'{modules}"weight":0.7')
    assert json.loads(expected) == json.loads(recipe.canonical())
    assert recipe == Recipe.parse(recipe.canonical())
    turned = replace(RECIPE, ingredients=(Ingredient(A, 0.7, pairs[::-1]), ingredients[1]))
    assert recipe.digest() != turned.digest()


def test_the_last_matching_pattern_is_the_weight() -> None:
    """In a module, an ingredient has the weight of the last pattern that matches the whole name,
    case-sensitively, or its own weight where no pattern matches.
    """
    pairs = (("*.mlp.*", 0.2), ("*.layers.0.*", 3.0), ("model.layers.[12].*", 0.0), ("MODEL*", 9.0))
    recipe = replace(RECIPE, ingredients=(Ingredient(A, 0.7, pairs), Ingredient(B, -0.5)))
    expected = {
        "model.layers.3.mlp.up_proj": (0.2, -0.5),
        "model.layers.0.mlp.up_proj": (3.0, -0.5),
        "model.layers.2.mlp.up_proj": (0.0, -0.5),
        "model.layers.3.self_attn.q_proj": (0.7, -0.5),
        "layers.0.self_attn.q_proj": (0.7, -0.5),
    }
    assert expected == {module: recipe.weights_of(module) for module in expected}


def test_lineage_is_digests_and_weights() -> None:
    """A record's lineage is the ingredients' digests and plain weights, in order."""
    recipe = replace(RECIPE, ingredients=(Ingredient(A, 0.7, (("*", 1.0),)), Ingredient(B, -0.5)))
    assert [(A, 0.7), (B, -0.5)] == recipe.lineage


def test_minus_zero_is_zero() -> None:
    """Weights 0.0 and -0.0 give the same recipe, also by pattern."""
    texts = {
        replace(
            RECIPE, ingredients=(Ingredient(A, 1.0, (("*", zero),)), Ingredient(B, zero))
        ).canonical()
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
        ('"weight":-0.5', '"modules":[],"weight":-0.5'),
        ('"weight":-0.5', '"modules":1,"weight":-0.5'),
        ('"weight":-0.5', '"modules":[["*",NaN]],"weight":-0.5'),
        ('"weight":-0.5', '"modules":[["*"]],"weight":-0.5'),
        ('"weight":-0.5', '"modules":[["",1.0]],"weight":-0.5'),
        ('"weight":-0.5', '"modules":{"*":1.0},"weight":-0.5'),
        ('"method":"lego"', '"method":null'), ("{", "[", ), ('"base":', '"base" :'),
    ],
)  # fmt: skip
def test_junk_is_refused(old: str, new: str) -> None:
    """A text that is not the canonical text of a recipe raises RecipeInvalid."""
    with pytest.raises(RecipeInvalid):
        Recipe.parse(CANONICAL.replace(old, new, 1))


@given(st.one_of(st.text(), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(json.dumps)))  # fmt: skip
def test_any_text_is_a_recipe_or_refused(text: str) -> None:
    """Parsing any text gives a recipe or RecipeInvalid, never another error."""
    with pytest.raises(RecipeInvalid):
        Recipe.parse(text)


def test_deep_nesting_is_refused() -> None:
    """A text nested beyond the parser's depth is refused with RecipeInvalid."""
    with pytest.raises(RecipeInvalid):
        Recipe.parse("[" * 100_000)


def test_plan_fills_everything_in() -> None:
    """A plan contains every default, the resolved rank, the revision, base and dtype."""
    recipe = planned("lego", member(q=8), member("b", B, 2, q=16), seed="5")
    expected = {
        "balance": False, "canonical": False, "n_init": 10, "output_reweighting": True,
        "parameter_reweighting": True, "rank": 16, "reference_rank": None, "scale": 1.0, "seed": 5,
    }  # fmt: skip
    assert expected == dict(recipe.options)
    assert (Ingredient(A, 1.0), Ingredient(B, 2.0)) == recipe.ingredients
    revision = METHODS["lego"].revision
    assert ("llama", "bfloat16", revision) == (recipe.base, recipe.dtype, recipe.revision)
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
    """`auto` is the largest sum of ranks in a module for linear and the largest rank for lego, at
    most the engine's limit.
    """
    members = member(q=16, v=4), member("b", B, q=8, v=12)
    assert expected == rank_of(planned(method, *members, limit=limit))
    assert expected == rank_of(planned(method, *members, limit=limit, rank="auto"))


def test_zero_weight_members_do_not_count_for_the_rank() -> None:
    """A member at weight 0 stays in the recipe but does not count for the rank."""
    recipe = planned("linear", member(q=8), member("b", B, 0.0, q=50))
    assert 8 == rank_of(recipe)
    assert 2 == len(recipe.ingredients)


def test_a_pattern_of_zero_leaves_a_member_out_of_modules() -> None:
    """Where a pattern gives 0, a member counts neither for the rank nor for the requirements."""
    off = (("*.v_proj", 0.0),)
    members = member(q=8, v=8), member("b", B, patterns=off, q=8, v=16)
    recipe = planned("linear", *members)
    assert 16 == rank_of(recipe)
    assert off == recipe.ingredients[1].patterns
    assert 8 == rank_of(planned("linear", *members[:1]))
    assert planned("average_factors", *members)
    refuses(IncompatibleAdapters, "one rank", "average_factors", member(v=8), member("b", B, v=16))


def test_a_pattern_can_bring_a_member_in() -> None:
    """An adapter at weight 0 with a pattern is merged only into the modules that match it."""
    recipe = planned("linear", member(q=8), member("b", B, 0.0, patterns=((Q, 1.0),), q=4, v=50))
    assert 12 == rank_of(recipe)


@pytest.mark.parametrize(
    ("patterns", "match"),
    [
        ((("*.mpl.*", 1.0),), r"'\*\.mpl\.\*' matches no module of legal, which has 1 like model"),
        ((("*", float("inf")),), "not a finite number"),
        ((("", 1.0),), "1 to 200 characters"),
        ((("*" * 201, 1.0),), "1 to 200 characters"),
        ((("*", 1.0),) * 65, "at most 64"),
        (((Q, 0.0),), "every weight is 0 in every module"),
    ],
)
def test_bad_patterns_are_refused(patterns: Patterns, match: str) -> None:
    """A pattern that is malformed, matches no module, or leaves nothing to merge is refused."""
    refuses(RecipeInvalid, match, "linear", member(patterns=patterns))


def test_many_stars_do_not_hang() -> None:
    """A pattern built to be slow is matched quickly."""
    slow = (("*a" * 100, 1.0),)
    refuses(RecipeInvalid, "matches no module", "linear", member(patterns=slow))


@pytest.mark.parametrize(
    ("method", "error", "match"),
    [
        ("slerp", RecipeInvalid, f"slerp takes at most 2 .*not 3: legal, b, c have {Q}"),
        ("compress", RecipeInvalid, f"compress takes at most 1 .*: legal, b, c have {Q}"),
        ("karcher", RecipeInvalid, rf"above 0, not -0.5 \(b in {Q}\)"),
        ("average_factors", IncompatibleAdapters, f"in {Q}, legal has 8 and c has 4"),
    ],
)
def test_requirements_are_checked_with_names(
    method: str, error: type[Exception], match: str
) -> None:
    """Members that fail a method's requirements are refused with adapters, module and figures."""
    refuses(error, match, method, member(q=8), member("b", B, -0.5, q=8), member("c", C, q=4))


def test_a_safety_adapter_covers_every_module() -> None:
    """`safemerge` refuses a last ingredient without a module that a task changes."""
    task, safe = member(q=8, v=8), member("safe", B, q=8)
    refuses(IncompatibleAdapters, f"safe has no {V}, which legal changes", "safemerge", task, safe)
    assert 16 == rank_of(planned("safemerge", safe, task))


@pytest.mark.parametrize(
    "method", ["linear", "average", "model_stock", "slerp", "karcher", "compress"]
)
def test_energy_and_match_are_written_into_the_recipe(method: str) -> None:
    """`energy` and `scale=match` are options in the recipe; the rank is then an upper bound."""
    options = dict(planned(method, member(q=8), energy="0.95", scale="match").options)
    assert (0.95, "match", 8) == (options["energy"], options["scale"], options["rank"])
    refuses(RecipeInvalid, "energy takes a number above 0 and at most 1", method, member(),
            energy=1.5)  # fmt: skip


def refuses(error: type[Exception], match: str, method: str, *members: Member, **kw: Any) -> None:
    """Check that a plan is refused."""
    with pytest.raises(error, match=match):
        planned(method, *members, **kw)


def test_rank_above_the_limit_is_refused() -> None:
    """A rank above the engine's limit is refused, and the message names the limit."""
    refuses(RecipeInvalid, "rank 65 is above the engine's limit: at most 64", "lego", member(),
            rank=65)  # fmt: skip


def test_cat_above_the_limit_says_what_to_use() -> None:
    """`cat` above the rank limit is refused with rank, module, limit and an alternative."""
    refuses(
        RecipeInvalid, rf"up to 24 in {Q}.*limit of 16: use linear\(\.\.\.; rank=16\)",
        "cat", member(q=16, v=1), member("b", B, q=8), limit=16,
    )  # fmt: skip
    assert planned("cat", member(q=16), member("b", B, 0.0, q=8), limit=16)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -float("inf")])
def test_weights_must_be_finite(weight: float) -> None:
    """A weight that is not a finite number is refused."""
    refuses(RecipeInvalid, "not a finite number", "cat", member(weight=weight))


def test_nothing_to_merge_is_refused() -> None:
    """A recipe without members, or with all members at weight 0, is invalid."""
    refuses(RecipeInvalid, "at least one adapter", "cat")
    refuses(RecipeInvalid, "every weight is 0", "cat", member(weight=0.0), member("b", B, -0.0))


def test_unknown_names_are_refused() -> None:
    """Unknown methods and options are refused with the list of known ones."""
    refuses(RecipeInvalid, "did you mean linear", "liner", member())
    refuses(RecipeInvalid, "it takes rank, seed", "lego", member(), density=0.5)


@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if "density" in m.parameters])
@pytest.mark.parametrize("density", [0, -0.1, 1.01, "nan", "dense"])
def test_density_is_in_its_bounds(method: str, density: object) -> None:
    """Every method with a density refuses one outside (0, 1]."""
    match = "density takes a number above 0 and at most 1, not"
    refuses(RecipeInvalid, match, method, member(), density=density)


@pytest.mark.parametrize("method", [n for n, m in METHODS.items() if "rank" in m.parameters])
def test_rank_is_at_least_one(method: str) -> None:
    """Every method with a rank option refuses rank 0."""
    refuses(RecipeInvalid, "rank takes an integer of at least 1", method, member(), rank=0)


def test_unknown_dtype_is_refused() -> None:
    """A dtype that weft does not write is refused with the list of dtypes that it writes."""
    with pytest.raises(RecipeInvalid, match="float32, float16, bfloat16"):
        plan("cat", [member()], options={}, base="llama", dtype="float8", rank_limit=None)


def test_bases_must_agree() -> None:
    """Members of different bases are incompatible, and the message names both bases."""
    refuses(
        IncompatibleAdapters, "poet was trained for the base qwen, legal for llama",
        "cat", member(), member("poet", B, base="qwen"),
    )  # fmt: skip
    refuses(IncompatibleAdapters, "legal was .* qwen, the merge is for llama", "cat",
            member(base="qwen"))  # fmt: skip


def test_shapes_must_agree() -> None:
    """Members with different shapes in a module are refused with labels, module and both shapes."""
    wide = Member("poet", B, 1.0, "llama", {Q: ModuleShape(8, 128, 32, "linear")})
    refuses(
        IncompatibleAdapters, rf"legal and poet do not fit in {Q}: .*\(32, 64\).*\(32, 128\)",
        "lego", member(), wide,
    )  # fmt: skip
    tied = Member("poet", B, 1.0, "llama", {Q: ModuleShape(8, 64, 32, "embedding")})
    refuses(IncompatibleAdapters, "linear against .* embedding", "cat", member(), tied)


def test_module_sets_may_differ() -> None:
    """Members may have different modules, and need not have any in common."""
    recipe = planned("linear", member(q=8), member("b", B, v=12), member("c", C, q=4, v=4))
    assert 16 == rank_of(recipe)
