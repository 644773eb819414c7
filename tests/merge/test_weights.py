"""Weights by module, looked up by name or matched by pattern; the last match counts."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import RecipeInvalid
from merge.weights import check_weights, weight_in

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
    check_weights([(1.0, tuple((f"layers.{i}", 0.5) for i in range(5000)))])

    with pytest.raises(RecipeInvalid, match="65 weight patterns: at most 64"):
        check_weights([(1.0, tuple((f"*.{i}", 0.5) for i in range(65)))])
    with pytest.raises(RecipeInvalid, match="10001 weights by module: at most 10000"):
        check_weights([(1.0, tuple((f"{i}", 0.5) for i in range(10_001)))])
