"""How methods are declared, how their options are parsed, and their requirements of members."""

import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from merge.errors import IncompatibleAdapters, MergeError, MethodDefinitionError, RecipeInvalid
from merge.factors import Merged, Stack
from merge.methods import METHODS, MergeMethod, find_method, merge_method
from merge.methods import method as method_module
from merge.methods.options import Count, Positive, Rank, Ratio, Seed, Share
from merge.methods.requirements import Requirements
from tests.laws.laws import apply, random_factors


@pytest.fixture(autouse=True)
def own_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the test's registrations afterwards."""
    before = dict(method_module._methods)
    yield
    method_module._methods.clear()
    method_module._methods.update(before)


def declare(function: Any, **registration: Any) -> MergeMethod:
    """Register `function` under its own name and return the record."""
    assert merge_method(function.__name__, paper="p", title="t", **registration)(function)
    return METHODS[function.__name__]


def every_kind(
    stack: Stack,
    *,
    rank: Rank,
    seed: Seed = 3,
    runs: Count = 10,
    density: Ratio = 0.5,
    part: Share = 0.5,
    shift: float = 0.0,
    steps: int = -1,
    flag: bool = True,
    basis: Literal["dense", "core"] = "dense",
    size: Positive | None = None,
) -> Merged:
    """A method with an option of every kind."""
    raise NotImplementedError


def test_methods_are_registered() -> None:
    """Sums, means, interpolations and controls are registered, each with its paper and title."""
    expected = {"cat", "linear", "lego", "average", "slerp", "karcher", "model_stock", "compress",
                "random", "average_factors"}  # fmt: skip
    assert expected <= METHODS.keys()
    assert all(m.paper and m.title and m.revision >= 1 for m in METHODS.values())


def test_function_is_returned_unchanged() -> None:
    """The decorator registers the function and returns that same function."""
    assert every_kind is merge_method("x", paper="p", title="t", auto_rank="sum")(every_kind)
    assert every_kind is METHODS["x"].function


def test_defaults_are_filled_in() -> None:
    """Binding no values gives every option its default, `scale` too; the rank stays open."""
    expected = {
        "rank": "auto", "seed": 3, "runs": 10, "density": 0.5, "part": 0.5, "shift": 0.0,
        "steps": -1, "flag": True, "basis": "dense", "size": None, "scale": 1.0,
    }  # fmt: skip
    assert expected == declare(every_kind, auto_rank="largest").bind({})


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("rank", "16", 16), ("rank", 16.0, 16), ("rank", "auto", "auto"), ("seed", 0, 0),
        ("seed", "9223372036854775807", 2**63 - 1), ("runs", 1000, 1000), ("density", "1", 1.0),
        ("density", 1, 1.0), ("shift", "-1e-3", -0.001), ("shift", -0.0, 0.0), ("steps", "-7", -7),
        ("flag", "False", False), ("flag", True, True), ("basis", "core", "core"),
        ("size", "none", None), ("size", None, None), ("size", "8", 8.0), ("scale", "-2", -2.0),
        ("scale", "match", "match"), ("part", 0, 0.0), ("part", "1.0", 1.0), ("part", -0.0, 0.0),
    ],
)  # fmt: skip
def test_text_and_numbers_mean_the_same(name: str, given: object, expected: object) -> None:
    """Values given as text or JSON are converted to the option's Python type."""
    actual = declare(every_kind, auto_rank="sum").bind({name: given})[name]
    assert (expected, type(expected)) == (actual, type(actual))
    assert "-0.0" != repr(actual)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("rank", 0), ("rank", "0"), ("rank", -1), ("rank", 2.5), ("rank", "many"), ("rank", True),
        ("rank", None), ("rank", 2**31), ("seed", -1), ("seed", 2**63), ("seed", float("nan")),
        ("runs", 0), ("runs", 1001), ("density", 0), ("density", 1.01), ("density", "nan"),
        ("shift", "inf"), ("shift", True), ("shift", []), ("steps", 1e400), ("steps", "1.5"),
        ("steps", "9" * 5000), ("flag", 1), ("flag", "yes"), ("basis", "sparse"), ("basis", 1),
        ("size", 0), ("size", "-1"), ("scale", 0), ("scale", "-0.0"), ("scale", "1e999"),
        ("scale", "Match"), ("scale", None), ("part", -0.1), ("part", 1.1), ("part", "match"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_with_what_is_accepted(name: str, given: object) -> None:
    """An invalid value is refused, and the message names the option and what it accepts."""
    with pytest.raises(RecipeInvalid, match=f"option {name} takes .*, not "):
        declare(every_kind, auto_rank="sum").bind({name: given})


def test_unknown_option_lists_the_valid_ones() -> None:
    """An unknown option is refused with the nearest name and all valid ones."""
    with pytest.raises(RecipeInvalid, match=r"'rnak' \(did you mean rank\?\); it takes rank, seed"):
        METHODS["lego"].bind({"rnak": 3})


def test_method_without_rank_refuses_one() -> None:
    """`cat` refuses the option `rank`, and the message lists the options that it takes."""
    with pytest.raises(RecipeInvalid, match="cat has no option 'rank'; it takes scale"):
        METHODS["cat"].bind({"rank": 3})


def test_unknown_method_lists_all() -> None:
    """An unknown method is refused with the nearest names and all names."""
    known = re.escape(", ".join(sorted(METHODS)))
    with pytest.raises(RecipeInvalid, match=rf"did you mean lego\?\); the methods are {known}$"):
        find_method("leggo")


def test_rank_is_the_asked_or_all_units() -> None:
    """A result has the requested number of MSUs, at most all; without a rank option it has all of
    them or, for methods on equal ranks, that rank.
    """
    assert 5 == METHODS["linear"].result_rank([4, 4], {"rank": 5})
    assert 8 == METHODS["linear"].result_rank([4, 4], {"rank": 50})
    assert 8 == METHODS["cat"].result_rank([4, 4], {})
    assert 4 == METHODS["average_factors"].result_rank([4, 4], {})


def test_name_taken_twice_is_an_error() -> None:
    """Two methods cannot share a name."""
    declare(every_kind, auto_rank="sum")
    with pytest.raises(MethodDefinitionError, match=r"every_kind.*twice"):
        declare(every_kind, auto_rank="sum")


def no_default(stack: Stack, *, density: Ratio) -> Merged:
    """Lacks a default."""
    raise NotImplementedError


def positional(stack: Stack, density: Ratio = 0.5) -> Merged:
    """Takes an option positionally."""
    raise NotImplementedError


def unannotated(stack: Stack, *, density=0.5) -> Merged:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Has an option of no kind."""
    raise NotImplementedError


def strange(stack: Stack, *, density: list[float] = []) -> Merged:  # noqa: B006  # never called
    """Has an option of an unknown kind."""
    raise NotImplementedError


def either(stack: Stack, *, density: float | str = 0.5) -> Merged:
    """Has an option of two kinds."""
    raise NotImplementedError


def numbers(stack: Stack, *, density: Literal[1, 2] = 1) -> Merged:
    """Has choices that are not names."""
    raise NotImplementedError


def own_scale(stack: Stack, *, scale: float = 1.0) -> Merged:
    """Declares the universal option."""
    raise NotImplementedError


def plain_rank(stack: Stack, *, rank: int = 4) -> Merged:
    """Has a rank that is not a Rank."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "parameter"),
    [
        (no_default, "density"), (positional, "density"), (unannotated, "density"),
        (strange, "density"), (either, "density"), (numbers, "density"), (own_scale, "scale"),
        (plain_rank, "rank"),
    ],
)  # fmt: skip
def test_signature_is_the_schema(function: Any, parameter: str) -> None:
    """A parameter that cannot be an option raises an error at import that names it."""
    with pytest.raises(MethodDefinitionError, match=f"parameter {parameter}:"):
        declare(function)
    assert function.__name__ not in METHODS


def test_rank_needs_its_automatic_value() -> None:
    """A method with a rank option must define the value of `auto`."""
    with pytest.raises(MethodDefinitionError, match="needs auto_rank"):
        declare(every_kind)


def test_a_random_prune_has_seed_and_density() -> None:
    """A method declared as a random prune must have the options `seed` and `density`."""

    def pruned(stack: Stack, *, seed: Seed = 0) -> Merged:
        raise NotImplementedError

    with pytest.raises(MethodDefinitionError, match="seed and density"):
        declare(pruned, random_prune=True)


def test_a_method_takes_a_stack() -> None:
    """A function whose first parameter is not a stack is refused."""

    def wrong(members: list[int]) -> Merged:
        raise NotImplementedError

    with pytest.raises(MethodDefinitionError, match="stack: Stack"):
        declare(wrong)


@pytest.mark.parametrize(
    ("name", "ranks", "weights", "error", "match"),
    [
        ("slerp", [4, 2, 6], [1.0, 1.0, 1.0], RecipeInvalid, "at most 2 .*, not 3: .*have model.m"),
        ("compress", [4, 2], [1.0, 1.0], RecipeInvalid, "at most 1 .*, not 2: .*have model.m"),
        ("karcher", [4, 2], [1.0, -0.5], RecipeInvalid, r"above 0, not -0.5 \(member 1 in model"),
        ("average_factors", [4, 2], [1.0, 1.0], IncompatibleAdapters,
         "in model.m, member 0 has 4 and member 1 has 2"),
    ],
)  # fmt: skip
def test_a_method_alone_refuses_what_it_cannot_merge(
    name: str, ranks: list[int], weights: list[float], error: type[MergeError], match: str
) -> None:
    """A method called directly refuses unsuitable members, naming the module and the figures."""
    members = [random_factors(seed, rank) for seed, rank in enumerate(ranks)]
    with pytest.raises(error, match=match):
        apply(METHODS[name], members, weights, rank=3)


def test_no_requirements_refuse_nothing() -> None:
    """A method without requirements accepts any number of members, weights and ranks."""
    Requirements().check("cat", "m", ["a", "b", "c"], [-1.0, 2.0, 1e-9], [1, 2, 3])


@pytest.mark.parametrize("name", ["average", "slerp", "karcher", "model_stock"])
def test_means_take_a_module_that_one_has_from_it(name: str) -> None:
    """A mean is over the adapters that have the module; with a single one it is that adapter."""
    f = random_factors(0, 4)
    expected = METHODS["cat"].function(Stack("m", (f,), (1.0,))).factors
    actual = apply(METHODS[name], [f], [1.0], rank=4).factors
    assert (actual.b @ actual.a - expected.b @ expected.a).abs().max() < 1e-4
