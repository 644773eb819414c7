"""Weights by module, looked up by name or matched by pattern; the last match counts."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import RecipeInvalid
from merge.weights import Patterns, check_weights, weight_in

NAMES = ("layers.0.q", "layers.0.k", "layers.1.q", "head")
PATTERNS = st.sampled_from([*NAMES, "*", "layers.*", "*.q", "layers.?.k", "layers.[01].q", "none"])


@given(st.lists(st.tuples(PATTERNS, st.floats(-2, 2)), max_size=8), st.sampled_from(NAMES))
def test_the_last_that_matches_counts(patterns: list[tuple[str, float]], module: str) -> None:
    """For any mix of names and patterns, the weight is that of the last match in a plain loop."""
    expected = 0.25
    for pattern, number in patterns:
        if fnmatchcase(module, pattern):
            expected = number

    assert expected == weight_in(module, 0.25, tuple(patterns))


def test_names_may_be_many_and_patterns_few() -> None:
    """Weights by module may be up to 10000, but patterns, matched one by one, up to 64."""
    patterns = tuple((f"*.{i}", 0.5) for i in range(65))
    names = tuple((f"{i}", 0.5) for i in range(10_001))
    check_weights([(1.0, patterns[:64]), (1.0, names[:10_000])])

    with pytest.raises(RecipeInvalid, match="65 weight patterns: at most 64"):
        check_weights([(1.0, patterns)])
    with pytest.raises(RecipeInvalid, match="10001 weights by module: at most 10000"):
        check_weights([(1.0, names)])


def test_a_pattern_has_1_to_200_characters() -> None:
    """An empty pattern and one of 201 characters are refused; the lengths between are not."""
    check_weights([(1.0, (("q", 0.5), ("q" * 200, 0.5)))])
    for pattern in ("", "q" * 201):
        with pytest.raises(RecipeInvalid, match="1 to 200 characters"):
            check_weights([(1.0, ((pattern, 0.5),))])


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ([], "nothing to merge"),
        ([(0.0, ()), (0.0, (("q", 0.0),))], "every weight is 0"),
        ([(1.0, ()), (float("nan"), ())], "weight nan is not a finite number"),
        ([(1.0, (("q", float("inf")),))], "weight inf is not a finite number"),
    ],
)
def test_weights_that_make_no_merge_are_refused(
    weights: list[tuple[float, Patterns]], reason: str
) -> None:
    """No weight at all, only zeros, NaN and infinity are refused, by module too."""
    with pytest.raises(RecipeInvalid, match=reason):
        check_weights(weights)


def test_one_weight_by_module_makes_a_merge() -> None:
    """An adapter of weight 0 with another weight in one module contributes something."""
    check_weights([(0.0, (("q", 0.5),))])
